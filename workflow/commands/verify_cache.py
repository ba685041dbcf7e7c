# SPDX-License-Identifier: Apache-2.0
"""``dcae data verify-cache``: the content of cached latents or captions against their index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify_cache(
    folder: Annotated[Path, typer.Argument(help="folder of latents or captions, with its index.json")],
) -> None:
    """Read every shard of cached latents or captions and compare its sha256 with the index.

    A training checks sizes and time stamps only, since reading terabytes at every start would take hours.

    Raises:
        CacheError: a shard differs; the message names it.
    """
    from dcae.shards import read_index, verify

    index = read_index(folder, str(folder))
    verify(folder, index)
    print(f"{folder}: {len(index['shards'])} shards of {index['count']} images are whole")

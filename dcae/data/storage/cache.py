# SPDX-License-Identifier: Apache-2.0
"""What was found out about the files of a data set, kept between jobs, and never beside the user's files.

Listing a million files takes minutes on a network file system, and each job of a benchmark begins with it. A table in
the cache carries the state of what it was made from (times and sizes); of another state, it is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from dcae.files import replacing

VERSION = 1
"""Raised whenever a table of the same key and state would hold something else."""


def folder() -> Path:
    """``$DCAE_CACHE``, or ``dcae`` in the user's folder for caches (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("DCAE_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dcae"


def _file(key: str) -> Path:
    return folder() / "datasets" / f"{hashlib.sha256(f'{VERSION} {key}'.encode()).hexdigest()[:32]}.arrow"


def load(key: str) -> tuple[Any, pa.Table] | None:
    """State and table of a key, the table mapped into memory; ``None`` if there is none, or a damaged one."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(_file(key)))).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowInvalid):
        return None
    return json.loads(table.schema.metadata[b"state"]), table


def store(key: str, state: Any, table: pa.Table) -> None:
    """Keep a table; half a one is never seen. A cache that cannot be written is told of, and done without."""
    table = table.replace_schema_metadata({"key": key, "state": json.dumps(state)})
    try:
        with (
            replacing(_file(key)) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    except OSError as error:
        warnings.warn(
            f"{folder()} cannot be written ({error}), so that every job lists its data sets anew; "
            "set DCAE_CACHE to a folder that can",
            stacklevel=2,
        )


def cached(key: str, state: Any, make: Callable[[], pa.Table]) -> pa.Table:
    """The table of a key and state (anything that JSON holds), made if it is not there."""
    found = load(key)
    if found is not None and found[0] == state:
        return found[1]
    table = make()
    store(key, state, table)
    return table

# SPDX-License-Identifier: Apache-2.0
"""A persistent cache of file listings and image headers, outside the user's data folders.

Listing a million files takes minutes on a network file system, and every job begins with it. Each table stores the
state of its sources (times and sizes) and is made again when that state differs.
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

VERSION = 3
"""Raise it whenever a table of the same key and state would have other content."""


def folder() -> Path:
    """Return ``$DCAE_CACHE``, or ``dcae`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("DCAE_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dcae"


def _file(key: str) -> Path:
    return folder() / "datasets" / f"{hashlib.sha256(f'{VERSION} {key}'.encode()).hexdigest()[:32]}.arrow"


def load(key: str) -> tuple[Any, pa.Table] | None:
    """Return state and memory-mapped table of a key; ``None`` if there is none or it is damaged."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(_file(key)))).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowInvalid):
        return None
    return json.loads(table.schema.metadata[b"state"]), table


def store(key: str, state: Any, table: pa.Table) -> None:
    """Write a table atomically; if the cache cannot be written, warn and continue."""
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
            f"{folder()} cannot be written ({error}), so every job lists its datasets again; "
            "set DCAE_CACHE to a writable folder",
            stacklevel=2,
        )


def cached(key: str, state: Any, make: Callable[[], pa.Table]) -> pa.Table:
    """Return the table of a key and state (JSON-serialisable), made by ``make`` if it is not cached."""
    found = load(key)
    if found is not None and found[0] == state:
        return found[1]
    table = make()
    store(key, state, table)
    return table

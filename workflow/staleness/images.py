# SPDX-License-Identifier: Apache-2.0
"""State of a dataset's image files: pictures that are added, removed or changed make stale what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcae.benchmark.entries import DatasetEntry, ImageFilesEntry, digest
from dcae.benchmark.record import write_atomically

if TYPE_CHECKING:
    from dcae.data.split_index import Split


def images_state(entry: DatasetEntry, split: Split, known: Path) -> str:
    """Return the digest of names, sizes, labels and captions of a split; empty for images that this project makes.

    Where the images are not mounted, as on a machine that has the results alone, it is the last known one.

    Args:
        entry: of the dataset.
        split: of its images.
        known: file that keeps the state, once there are results.
    """
    if not isinstance(entry, ImageFilesEntry):
        return ""
    from dcae.data.layouts.index import index_split
    from dcae.data.storage.files import DatasetError, state_of

    try:
        samples = index_split(entry, split)
    except (DatasetError, OSError):  # which the job names
        return known.read_text(encoding="utf-8").strip() if known.is_file() else ""
    state = digest(
        state_of(samples.names, samples.sizes),
        state_of(samples.names, samples.labels),
        samples.text_state,
    )
    if known.parent.parent.is_dir():  # a dry run of a fresh clone leaves nothing
        write_atomically(known, f"{state}\n")
    return state

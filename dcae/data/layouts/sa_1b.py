# SPDX-License-Identifier: Apache-2.0
"""SA-1B: ``sa_000000.tar`` and so on, each with ``sa_<id>.jpg`` and its masks; read in place, any number of them.

It was published without a split. Validation images are chosen by id alone, so the split is the same for any
subset of the archives.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.benchmark.entries import SA1BEntry
from dcae.data.split_index import Split, SplitIndex
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import DatasetError, expanded


def index_sa_1b(entry: SA1BEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index the images of a split, by id.

    Raises:
        DatasetError: there are no archives or no images, or an image is in two archives.
    """
    path = expanded(entry.path)
    archives = sorted(path.glob("sa_*.tar"))
    if not archives:
        raise DatasetError(
            f"{path.absolute()}: no SA-1B there; expected sa_000000.tar and so on; put them there, or correct `path`"
        )
    files = ArchiveFiles(archives, ending=".jpg", refresh=refresh)
    ids = pc.struct_field(pc.extract_regex(files.names, r"(?:^|/)sa_(?P<id>\d+)\.jpg$"), "id")
    members = np.flatnonzero(pc.is_valid(ids))
    ids = ids.take(pa.array(members)).cast(pa.int64()).to_numpy()
    order = np.argsort(ids, kind="stable")
    members, ids = members[order], ids[order]
    if (twice := np.flatnonzero(np.diff(ids) == 0)).size:
        first, second = (files.where(int(members[twice[0] + k])) for k in (0, 1))
        raise DatasetError(f"{first} and {second} are the same image; remove one of the archives")
    held_out = ids % entry.validation_every == 0
    members = members[held_out == (split == "validation")]
    return SplitIndex(files, members, files.names.take(pa.array(members)), np.zeros(len(members), np.int64), ["sa-1b"])

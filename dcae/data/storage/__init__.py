# SPDX-License-Identifier: Apache-2.0
"""Where the files of a data set lie: in folders, or in zip and tar archives, which are read in place."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "archives": ["ArchiveFiles"],
        "files": ["Files", "are_images"],
        "folders": ["FolderFiles"],
        "places": ["is_there", "open_files", "read_side_file"],
    },
)

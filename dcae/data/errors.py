# SPDX-License-Identifier: Apache-2.0
"""The error of data sets; it stands apart so that what checks files needs no torch."""

from __future__ import annotations


class DatasetError(ValueError):
    """Images that are missing or cannot be read: names the file or folder and says what to do."""

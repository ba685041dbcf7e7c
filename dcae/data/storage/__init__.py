# SPDX-License-Identifier: Apache-2.0
"""Files of a dataset in folders, zip files and tar archives, read in place."""

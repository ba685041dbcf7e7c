# SPDX-License-Identifier: Apache-2.0
"""Files of a data set in folders, zip files and tar archives, read in place."""

# SPDX-License-Identifier: Apache-2.0
"""Where the files of a data set lie: in folders, or in zip and tar archives, which are read in place."""

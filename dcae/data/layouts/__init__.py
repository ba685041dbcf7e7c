# SPDX-License-Identifier: Apache-2.0
"""The official layouts of data sets: which of their files are the images of a split. No module here imports torch."""

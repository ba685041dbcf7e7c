# SPDX-License-Identifier: Apache-2.0
"""Index the image files of a split in the official layout of each dataset. No module here imports torch."""

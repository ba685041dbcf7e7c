# SPDX-License-Identifier: Apache-2.0
"""Images for training and evaluation: procedural scenes, bundled photographs, data sets of files, and mixtures."""

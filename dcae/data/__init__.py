# SPDX-License-Identifier: Apache-2.0
"""Images for training and evaluation: procedural scenes, bundled photographs, datasets of files, and mixtures."""

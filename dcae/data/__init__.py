# SPDX-License-Identifier: Apache-2.0
"""Images to train on and to measure with: procedural scenes, bundled photographs, data sets, and mixtures of them."""

# SPDX-License-Identifier: Apache-2.0
"""Figures of the paper redrawn from records, and grids of sample images."""

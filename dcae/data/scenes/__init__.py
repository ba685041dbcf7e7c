# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes: images that are drawn from their number alone."""

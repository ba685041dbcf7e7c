# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes, drawn from their index alone."""

# SPDX-License-Identifier: Apache-2.0
"""Captions and their embeddings by a text encoder."""

# SPDX-License-Identifier: Apache-2.0
"""Latents of a dataset: encoded into cached shards, or on the fly."""

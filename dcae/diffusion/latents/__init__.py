# SPDX-License-Identifier: Apache-2.0
"""Latents of a data set: encoded into cached shards, or on the fly."""

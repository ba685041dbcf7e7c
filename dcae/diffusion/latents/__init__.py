# SPDX-License-Identifier: Apache-2.0
"""Latents of a data set: encoding, cached shards, and encoding on the fly."""

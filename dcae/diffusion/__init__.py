# SPDX-License-Identifier: Apache-2.0
"""Diffusion models: networks, training objectives, sampling, and their latents and captions."""

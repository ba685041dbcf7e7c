# SPDX-License-Identifier: Apache-2.0
"""Diffusion models: networks, what they are trained for, how they generate, and the latents they are trained on."""

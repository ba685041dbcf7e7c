# SPDX-License-Identifier: Apache-2.0
"""Diffusion models: DiT, U-ViT and PixArt, built, saved, and loaded from released weights."""

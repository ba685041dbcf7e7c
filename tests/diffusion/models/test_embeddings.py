# SPDX-License-Identifier: Apache-2.0
"""Embeddings against diffusers, and the way to patches and back."""

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import PatchEmbed

from dcae.diffusion.models.embeddings import position_table, sinusoid, unpatchify


def test_sinusoid_is_that_of_diffusers():
    timesteps = torch.tensor([0.0, 1.0, 34.3, 999.0, 1000.0])
    expected = get_timestep_embedding(timesteps, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    # Frequencies differ by rounding, which angles of 1000 magnify.
    assert torch.allclose(sinusoid(timesteps, 256), expected, atol=2e-4)


def test_position_table_is_that_of_diffusers():
    expected = get_2d_sincos_pos_embed(64, 5, base_size=5, output_type="pt")
    assert torch.allclose(position_table(5, 64)[0], expected.float(), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_unpatchify_undoes_patches(side, patch_size, channels, batch):
    latents = torch.arange(batch * channels * (side * patch_size) ** 2, dtype=torch.float32)
    latents = latents.reshape(batch, channels, side * patch_size, side * patch_size)
    # A patch embedding that only copies, in the order (y, x, channel).
    values = patch_size**2 * channels
    embed = PatchEmbed(side * patch_size, patch_size, channels, values, bias=False)
    kernel = torch.eye(values).reshape(values, patch_size, patch_size, channels).permute(0, 3, 1, 2)
    embed.proj.weight.data = kernel.contiguous()
    assert torch.equal(unpatchify(embed(latents), patch_size), latents)

# SPDX-License-Identifier: Apache-2.0
"""Weights in LDM's original layout: their names as LDM's code gives them, and its network on the same weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from dcae.autoencoders.loading import load
from dcae.weights.catalogue import WeightsError

WIDTHS, LATENTS = (32, 32, 64), 3  # the last level with attention, as in kl-f16
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


def entry(path) -> dict:
    return {
        "kind": "diffusers",
        "spatial_compression": 4,
        "latent_channels": LATENTS,
        "class": "AutoencoderKL",
        "pretrained": {"id": str(path), "download": "https://example.org/kl-f4.zip"},
        "config": {
            "block_out_channels": list(WIDTHS),
            "down_block_types": [DOWN, DOWN, f"Attn{DOWN}"],
            "up_block_types": [f"Attn{UP}", UP, UP],
            "layers_per_block": 2,
            "latent_channels": LATENTS,
            "norm_num_groups": 32,
        },
    }


class OriginalLayers:
    """The layers of ``ldm/modules/diffusionmodules/model.py``, by name; weights are made at first use."""

    def __init__(self):
        self.weights: dict[str, Tensor] = {}
        self.random = torch.Generator().manual_seed(0)

    def _weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.weights:
            self.weights[name] = torch.randn(shape, generator=self.random) * (0.1 if len(shape) > 1 else 1)
        return self.weights[name]

    def conv(self, x: Tensor, name: str, width: int, kernel: int = 3, **how) -> Tensor:
        weight, bias = self._weight(f"{name}.weight", width, x.shape[1], kernel, kernel), f"{name}.bias"
        return F.conv2d(x, weight, self._weight(bias, width), **{"padding": kernel // 2, **how})

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = (self._weight(f"{name}.{part}", x.shape[1]) for part in ("weight", "bias"))
        return F.group_norm(x, 32, weight, bias, eps=1e-6)

    def block(self, x: Tensor, name: str, width: int) -> Tensor:
        h = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", width)
        h = self.conv(F.silu(self.norm(h, f"{name}.norm2")), f"{name}.conv2", width)
        return h + (x if x.shape[1] == width else self.conv(x, f"{name}.nin_shortcut", width, 1))

    def attention(self, x: Tensor, name: str) -> Tensor:
        h, width = self.norm(x, f"{name}.norm"), x.shape[1]
        q, k, v = (self.conv(h, f"{name}.{part}", width, 1).flatten(2) for part in "qkv")
        shares = torch.softmax(q.transpose(1, 2) @ k / width**0.5, dim=-1)  # [B, query, key]
        return x + self.conv((v @ shares.transpose(1, 2)).view_as(x), f"{name}.proj_out", width, 1)

    def middle(self, x: Tensor, name: str) -> Tensor:
        x = self.attention(self.block(x, f"{name}.block_1", x.shape[1]), f"{name}.attn_1")
        return self.block(x, f"{name}.block_2", x.shape[1])

    def level(self, x: Tensor, name: str, level: int, blocks: int) -> Tensor:
        for index in range(blocks):
            x = self.block(x, f"{name}.block.{index}", WIDTHS[level])
            x = self.attention(x, f"{name}.attn.{index}") if level == len(WIDTHS) - 1 else x
        return x

    def encode(self, x: Tensor) -> Tensor:
        x = self.conv(x, "encoder.conv_in", WIDTHS[0])
        for level in range(len(WIDTHS)):
            x = self.level(x, f"encoder.down.{level}", level, 2)
            if level < len(WIDTHS) - 1:
                x = F.pad(x, (0, 1, 0, 1))
                x = self.conv(x, f"encoder.down.{level}.downsample.conv", WIDTHS[level], stride=2, padding=0)
        x = F.silu(self.norm(self.middle(x, "encoder.mid"), "encoder.norm_out"))
        moments = self.conv(self.conv(x, "encoder.conv_out", 2 * LATENTS), "quant_conv", 2 * LATENTS, 1)
        return moments.chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        x = self.conv(self.conv(z, "post_quant_conv", LATENTS, 1), "decoder.conv_in", WIDTHS[-1])
        x = self.middle(x, "decoder.mid")
        for level in reversed(range(len(WIDTHS))):
            x = self.level(x, f"decoder.up.{level}", level, 3)
            if level:
                x = F.interpolate(x, scale_factor=2.0)
                x = self.conv(x, f"decoder.up.{level}.upsample.conv", WIDTHS[level])
        return self.conv(F.silu(self.norm(x, "decoder.norm_out")), "decoder.conv_out", 3)


@pytest.fixture(scope="module")
def original() -> Iterator[tuple[OriginalLayers, Tensor, Tensor, Tensor]]:
    layers, images = OriginalLayers(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = layers.encode(images)
    return layers, images, latents, layers.decode(latents)


def test_weights_in_ldms_layout_give_ldms_latents_and_images(original, tmp_path):
    layers, images, latents, decoded = original
    of_the_loss = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(64, 3, 4, 4)}
    save_file(layers.weights | of_the_loss, tmp_path / "kl-f4.safetensors")
    autoencoder = load(entry(tmp_path / "kl-f4.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.encode(images), latents, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(autoencoder.decode(latents), decoded, rtol=1e-3, atol=1e-4)
    assert autoencoder.released_file == tmp_path / "kl-f4.safetensors"


def test_a_pickled_checkpoint_is_refused_and_its_conversion_told_in_one_line(original, tmp_path):
    layers, *_ = original
    checkpoint, converted = tmp_path / "kl-f4.ckpt", tmp_path / "kl-f4.safetensors"
    torch.save({"state_dict": layers.weights | {"loss.logvar": torch.zeros(())}, "global_step": 1}, checkpoint)
    for asked in (checkpoint, converted):  # the second is not there, and the first lies beside it
        with pytest.raises(WeightsError, match="is a pickle") as refused:
            load(entry(asked))
    import safetensors.torch

    line = str(refused.value).partition("Convert it: ")[2]
    assert "\n" not in line
    eval(line, {"torch": torch, "safetensors": safetensors, "path": checkpoint, "new_path": converted})
    load(entry(converted))


def test_missing_weights_name_the_download_and_other_weights_the_difference(original, tmp_path):
    with pytest.raises(WeightsError, match=r"kl-f4\.safetensors: no such file; get https://example\.org/kl-f4\.zip"):
        load(entry(tmp_path / "kl-f4.safetensors"))
    save_file({"encoder.conv_in.weight": torch.zeros(1)}, tmp_path / "kl-f4.safetensors")
    with pytest.raises(WeightsError, match=r"LDM's layout: missing: .*; of another shape: encoder\.conv_in\.weight"):
        load(entry(tmp_path / "kl-f4.safetensors"))

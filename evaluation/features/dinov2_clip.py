# SPDX-License-Identifier: Apache-2.0
"""Image embeddings of DINOv2 for FD-DINOv2, and of CLIP for CMMD."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from dcae.benchmark.entries import NetworkWeights
from dcae.initialisation import seeded_random_init
from dcae.weights.catalogue import WeightsError, find
from evaluation.features.clip_score import load_clip

# Width, layers and heads; patches of 14 px, trained at 518 px (Oquab et al. 2023, table 17).
DINOV2 = {
    "dinov2-vit-s-14": (384, 12, 6),
    "dinov2-vit-b-14": (768, 12, 12),
    "dinov2-vit-l-14": (1024, 24, 16),
}
DINOV2_PATCH, DINOV2_TRAINED_SIZE, DINOV2_SIZE = 14, 518, 224
# Added to the number of patches in Meta's code before the scale of the position embeddings is computed.
DINOV2_OFFSET = 0.1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Embedding = Callable[[Tensor], Tensor]  # uint8 [B, 3, H, W] -> float32 [B, d]


def _normalised(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Normalise images in [0, 1] by mean and standard deviation of each channel."""
    columns = [torch.tensor(each, device=images.device).view(3, 1, 1) for each in (mean, deviation)]
    return (images - columns[0]) / columns[1]


# --- DINOv2 ---------------------------------------------------------------------------------------------------------


def load_dinov2(weights: NetworkWeights) -> Dinov2Model:
    """Load the network for images of 224 px, with the weights that a protocol names or random ones of its seed.

    Raises:
        ValueError: not one of the networks in ``DINOV2``.
        WeightsError: the weight file is missing, has the wrong content, or does not fit.
    """
    if weights.network not in DINOV2:
        raise ValueError(f"dinov2 has the networks {', '.join(DINOV2)}; the protocol says {weights.network!r}")
    width, layers, heads = DINOV2[weights.network]
    config = Dinov2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, patch_size=DINOV2_PATCH,
        image_size=DINOV2_TRAINED_SIZE,
    )  # fmt: skip
    if weights.random:
        network = Dinov2Model(config)
        seeded_random_init(network, weights.seed)
    else:
        network = _with_weights(config, find(weights.weights))
    positions = network.embeddings.position_embeddings
    network.embeddings.position_embeddings = nn.Parameter(resized_positions(positions.detach()))
    return network.eval().requires_grad_(False)


def _with_weights(config: Dinov2Config, path: Path) -> Dinov2Model:
    state = load_file(path)  # transformers knows older names of the same weights
    network, found = Dinov2Model.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    wrong = [*found["missing_keys"], *(key for key, *_ in found.get("mismatched_keys", []))]
    if wrong:
        raise WeightsError(f"{path} does not fit {config.hidden_size} wide DINOv2: {', '.join(sorted(wrong)[:3])}")
    return network


def resized_positions(positions: Tensor) -> Tensor:
    """Resize position embeddings [1, 1 + 37 x 37, d] to 16 x 16 patches as Meta's code does: [1, 1 + 256, d]."""
    side = DINOV2_SIZE // DINOV2_PATCH
    trained = DINOV2_TRAINED_SIZE // DINOV2_PATCH
    scale = (side + DINOV2_OFFSET) / trained
    grid = positions[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)  # [1, d, 37, 37]
    resized = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def dinov2_input(images: Tensor) -> Tensor:
    """Convert uint8 images to the network's input [B, 3, 224, 224]: antialiased bicubic, as in EDM2's evaluation."""
    size = (DINOV2_SIZE, DINOV2_SIZE)
    resized = F.interpolate(images.float(), size=size, mode="bicubic", align_corners=False, antialias=True)
    return _normalised(resized / 255, IMAGENET_MEAN, IMAGENET_STD)


def dinov2_embedding(weights: NetworkWeights, device: str | torch.device) -> Embedding:
    """Return the function from uint8 images to the class token after the last norm, float32 [B, d]."""
    network = load_dinov2(weights).to(device)
    return torch.inference_mode()(lambda images: network(dinov2_input(images)).last_hidden_state[:, 0])


# --- CLIP -----------------------------------------------------------------------------------------------------------


def clip_input(images: Tensor, size: int) -> Tensor:
    """Convert uint8 images to [B, 3, size, size] as CMMD's authors do: JAX's antialiased bicubic, not rounded."""
    shape = (size, size)
    resized = F.interpolate(images.float() / 255, size=shape, mode="bicubic", align_corners=False, antialias=True)
    return _normalised(resized, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def clip_embedding(weights: NetworkWeights, device: str | torch.device) -> Embedding:
    """Return the function from uint8 images to projected image embeddings of length 1, float32 [B, d]."""
    model = load_clip(weights).to(device)
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    return torch.inference_mode()(lambda images: model.encode_image(clip_input(images, side), normalize=True))

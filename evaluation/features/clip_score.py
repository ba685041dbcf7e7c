# SPDX-License-Identifier: Apache-2.0
"""CLIP score: 100 x the cosine of the CLIP embeddings of an image and its caption (Radford et al. 2021).

As DC-Gen computes it: no prompt before the caption, captions cut after 77 tokens, and no clamp at 0. Other scales in
use are 2.5 x the cosine (Hessel et al. 2021) and the cosine itself; the choice of model moves the number from about 17
to 27.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dcae.benchmark.entries import NetworkWeights
from dcae.initialisation import seeded_random_init
from dcae.weights.catalogue import find

# Entries of OpenAI's archives that are no weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


class ClipScore:
    """Scores images against captions with the CLIP model that a protocol names.

    Args:
        weights: ``network`` is a model name of open_clip; OpenAI's own weights need one that ends in ``-quickgelu``.
        device: where the model runs.

    Raises:
        ValueError: open_clip does not know the model, or it does not fit the weights.
        WeightsError: the weight file is missing or has the wrong content.
    """

    def __init__(self, weights: NetworkWeights, device: str | torch.device = "cpu"):
        self.model = load_clip(weights).to(device)
        self.device = torch.device(device)
        size = self.model.visual.image_size  # a pair for vision transformers, a number for ResNets
        self.side = size if isinstance(size, int) else size[0]
        self.tokenizer = open_clip.get_tokenizer(weights.network)
        self._text_features: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return scores, float64 [B], of square uint8 images [B, 3, H, H] and one caption each."""
        if len(images) != len(captions):
            raise ValueError(f"{len(images)} images and {len(captions)} captions: expected one caption for each image")
        self._encode_new(captions)
        text_features = torch.stack([self._text_features[caption] for caption in captions])
        pixels = preprocess(images.to(self.device), self.side)
        image_features = self.model.encode_image(pixels, normalize=True)
        return 100 * (image_features * text_features).sum(1).double().cpu()

    def _encode_new(self, captions: Sequence[str]) -> None:
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._text_features]
        if new:
            features = self.model.encode_text(self.tokenizer(new).to(self.device), normalize=True)
            self._text_features.update(zip(new, features, strict=True))


def preprocess(images: Tensor, size: int) -> Tensor:
    """Preprocess square uint8 images as OpenAI does: antialiased bicubic to ``size``, rounded to 8 bits, normalised.

    The usual centre crop after the resize has no effect on square images.

    Raises:
        ValueError: images are not square, or not uint8.
    """
    if images.shape[-2] != images.shape[-1] or images.dtype != torch.uint8:
        raise ValueError(f"CLIP score takes square uint8 images, got {tuple(images.shape)} of {images.dtype}")
    pixels = images
    if images.shape[-1] != size:  # of 8-bit values on the CPU, as PIL: it differs in 0.25 % of the pixels, by 1
        pixels = F.interpolate(images.cpu(), size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    pixels = pixels.to(images.device, torch.float32)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=images.device).view(3, 1, 1)
    deviation = torch.tensor(open_clip.OPENAI_DATASET_STD, device=images.device).view(3, 1, 1)
    return (pixels / 255 - mean) / deviation


def load_clip(weights: NetworkWeights) -> open_clip.CLIP:
    """Load the CLIP model with the weights that a protocol names, or with random ones of its seed, for inference."""
    config = open_clip.get_model_config(weights.network)
    if config is None or config.get("custom_text"):
        raise ValueError(f"clip network {weights.network!r} is not one of open_clip's plain CLIP models")
    if not weights.random:
        path = find(weights.weights)
        state = _read_state(path)
        if _is_torchscript(path) and not config.get("quick_gelu"):
            raise ValueError(
                f"{path} is OpenAI's, whose networks use QuickGELU: name {weights.network}-quickgelu in the protocol"
            )
    with torch.device("meta"):  # initial values would be thrown away
        model = open_clip.CLIP(**config)
    model.to_empty(device="cpu")
    # The causal mask of the text, the only buffer that is not in the files.
    model.attn_mask.copy_(torch.full_like(model.attn_mask, float("-inf")).triu(1))
    if weights.random:
        seeded_random_init(model, weights.seed)
    else:
        model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, as OpenAI publishes CLIP; a state dict has no constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if not _is_torchscript(path):
        return torch.load(path, map_location="cpu", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated; OpenAI's files are not converted
        state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: value for name, value in state.items() if name not in NOT_WEIGHTS}

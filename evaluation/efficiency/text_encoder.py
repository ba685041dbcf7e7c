# SPDX-License-Identifier: Apache-2.0
"""A T5 encoder with random weights, made on its device, and captions for it, to measure its cost.

T5-v1.1-XXL has 4.8 billion parameters. With the initialisation of transformers, on a CPU and in fp32, it takes minutes
and 19 GB to make; here its weights are drawn on the device in the precision that they are used in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import TextEncoder
from dcae.diffusion.captions.dataset import Captions


class RandomTextEncoder:
    """Embeds captions of random tokens.

    Args:
        settings: an architecture, and how many tokens a caption has.
        dtype: of the weights.
        device: to encode on.

    Raises:
        ConfigError: released weights instead of an architecture.
    """

    def __init__(self, settings: TextEncoder, dtype: torch.dtype, device: torch.device):
        from transformers import T5Config, T5EncoderModel

        if settings.config is None:
            raise ConfigError("text_encoder: its speed is measured with random weights: give config, its architecture")
        config = T5Config(**settings.config)
        with torch.device("meta"):
            model = T5EncoderModel(config)
        self.model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
        for parameter in self.model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.ones_(parameter)
        self._tokens, self._vocabulary, self._device = settings.tokens, config.vocab_size, device

    @torch.no_grad()
    def __call__(self, count: int) -> Captions:
        """Return embeddings [B, T, C] and mask [B, T] of so many captions without padding."""
        tokens = torch.randint(self._vocabulary, (count, self._tokens), device=self._device)
        mask = torch.ones_like(tokens)
        return Captions(self.model(tokens, attention_mask=mask).last_hidden_state, mask.bool())


class Prompts:
    """Captions that are embedded anew for every batch, and the empty caption, embedded once."""

    def __init__(self, encoder: RandomTextEncoder, count: int, empty: tuple[Tensor, Tensor]):
        self._encoder, self._count, self.empty = encoder, count, empty

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Captions:
        return self._encoder(len(indices))

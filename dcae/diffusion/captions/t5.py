# SPDX-License-Identifier: Apache-2.0
"""T5's encoder, as PixArt-α uses it: maps captions to embeddings; released or random weights."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import Pretrained, TextEncoder
from dcae.diffusion.captions.dataset import Captions
from dcae.weights.catalogue import WeightsError, weights_dir
from dcae.weights.hub import folder_here

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class T5TextEncoder:
    """Maps captions, lower-cased and stripped as in PixArt-α's pipeline, to the last hidden states of T5's encoder.

    Attributes:
        tokens: T; longer captions are cut off.
        channels: C.

    Args:
        settings: of the diffusion entry.
        device: to encode on.

    Raises:
        ConfigError: an unknown field of ``config``.
        WeightsError: released weights are missing.
    """

    def __init__(self, settings: TextEncoder, device: torch.device | str = "cpu"):
        released = settings.pretrained is not None
        dtype = DTYPES[settings.precision]
        self._tokenizer, model = _released(settings, dtype) if released else _random(settings)
        self._model = model.to(device, dtype).eval().requires_grad_(False)
        self.tokens, self.channels = settings.tokens, model.config.d_model

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Captions:
        texts = [caption.lower().strip() for caption in captions]
        batch = self._tokenizer(
            texts, padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        states = self._model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        return Captions(states, batch.attention_mask.bool())


def _random(settings: TextEncoder):
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    known = set(inspect.signature(T5Config.__init__).parameters)
    unknown = sorted(set(settings.config) - known)
    if unknown:
        raise ConfigError(
            f"text_encoder: config: {', '.join(unknown)}: no such argument of transformers' T5Config; allowed: "
            f"{', '.join(sorted(known - {'self', 'kwargs'}))}"
        )
    tokenizer = ByT5Tokenizer()  # bytes: it needs no vocabulary
    config = T5Config(**{"vocab_size": len(tokenizer), **settings.config})
    if config.vocab_size < len(tokenizer):
        raise ConfigError(f"text_encoder: config: vocab_size is {config.vocab_size}, ByT5 needs {len(tokenizer)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return tokenizer, T5EncoderModel(config)


def _released(settings: TextEncoder, dtype: torch.dtype):
    """Return tokenizer and encoder; read in ``dtype``, so that float32 weights never take twice the memory."""
    from transformers import AutoTokenizer, T5EncoderModel

    source = settings.pretrained
    tokenizer_folder = settings.tokenizer_subfolder or source.subfolder
    kept = folder_here(source)
    place = source.id if kept is None else str(kept)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **_place(source, tokenizer_folder))
        arguments = {"use_safetensors": True, "dtype": dtype, **_place(source, source.subfolder)}
        return tokenizer, T5EncoderModel.from_pretrained(place, **arguments)
    except (OSError, ValueError) as error:
        revision = f" --revision {source.revision}" if source.revision else ""
        wanted = [each for each in (source.subfolder, settings.tokenizer_subfolder) if each]
        parts = "".join(f" --include '{each}/*'" for each in wanted)
        raise WeightsError(
            f"text_encoder: pretrained.id {source.id}: T5's encoder and its tokenizer are neither in "
            f"{kept or weights_dir() / source.id} nor to be had from the hub: {error}\n"
            "Get them where there is a network, and put them there:\n"
            f"  hf download {source.id}{revision}{parts} --local-dir {weights_dir() / source.id}\n"
            "Or give another folder as pretrained.id, or bring the cache of the hub along (HF_HOME)"
        ) from error


def _place(source: Pretrained, subfolder: str | None) -> dict[str, str]:
    place = {"revision": source.revision, "subfolder": subfolder}
    return {name: value for name, value in place.items() if value is not None}

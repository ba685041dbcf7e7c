# SPDX-License-Identifier: Apache-2.0
"""The text encoder: against transformers itself, released layouts from folders, and mistakes."""

import pytest
import torch
from pydantic import ValidationError
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from dcae.benchmark import ConfigError
from dcae.benchmark.entries import TextEncoder
from dcae.diffusion.captions.t5 import T5TextEncoder
from dcae.weights.catalogue import WeightsError

CONFIG = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
CAPTIONS = ["A red circle", "  two BLUE squares on a very long line of text that is cut off  ", ""]


def test_captions_are_padded_and_masked():
    encoder = T5TextEncoder(TextEncoder(config=CONFIG, tokens=24))
    embeddings, mask = encoder(CAPTIONS)
    assert (encoder.tokens, encoder.channels) == (24, 16)
    assert embeddings.shape == (3, 24, 16) and mask.shape == (3, 24) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [13, 24, 1], "a token per byte and one for the end"
    assert torch.equal(mask, mask.sort(dim=1, descending=True).values), "padding is at the end"


def test_a_caption_is_embedded_alike_in_any_company():
    encoder = T5TextEncoder(TextEncoder(config=CONFIG, tokens=24))
    together, _ = encoder(CAPTIONS)
    alone, _ = encoder(CAPTIONS[:1])
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)  # matrix products of other sizes


def test_random_weights_follow_from_the_seed_and_leave_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    first, again, other = (T5TextEncoder(TextEncoder(config=CONFIG, seed=seed))(["a"])[0] for seed in (0, 0, 1))
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_released_weights_from_a_folder(tmp_path):
    torch.manual_seed(3)
    theirs = T5EncoderModel(T5Config(vocab_size=384, **CONFIG)).eval()
    theirs.save_pretrained(tmp_path / "text_encoder")
    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    place = {"pretrained": {"id": str(tmp_path), "subfolder": "text_encoder"}, "tokenizer_subfolder": "tokenizer"}
    embeddings, mask = T5TextEncoder(TextEncoder(**place, tokens=20))(CAPTIONS)
    tokens = ByT5Tokenizer()([text.lower().strip() for text in CAPTIONS], padding="max_length", max_length=20,
                             truncation=True, return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        expected = theirs(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    assert torch.equal(embeddings, expected)
    assert torch.equal(mask, tokens.attention_mask.bool())


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_released_weights_are_read_in_the_precision_of_the_entry(tmp_path, precision, dtype):
    T5EncoderModel(T5Config(vocab_size=384, **CONFIG)).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    encoder = T5TextEncoder(TextEncoder(pretrained={"id": str(tmp_path)}, precision=precision))
    assert encoder(CAPTIONS).embeddings.dtype == dtype


def test_released_weights_are_found_in_the_folder_of_weights(tmp_path, monkeypatch):
    """As those of autoencoders: weights/OWNER/NAME, on a machine without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("dcae.weights.hub.weights_dir", lambda: tmp_path)
    place = tmp_path / "someone" / "t5"
    T5EncoderModel(T5Config(vocab_size=384, **CONFIG)).save_pretrained(place / "text_encoder")
    ByT5Tokenizer().save_pretrained(place / "tokenizer")
    pretrained = {"id": "someone/t5", "subfolder": "text_encoder"}
    encoder = T5TextEncoder(TextEncoder(pretrained=pretrained, tokenizer_subfolder="tokenizer"))
    assert encoder.channels == CONFIG["d_model"]


def test_weights_that_cannot_be_had_name_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"(?s)text_encoder: pretrained.id .*nothing.*hf download"):
        T5TextEncoder(TextEncoder(pretrained={"id": str(tmp_path / "nothing")}))


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"text_encoder: config: width: no such argument .* d_model"):
        T5TextEncoder(TextEncoder(config={"width": 3}))
    with pytest.raises(ConfigError, match="vocab_size is 10, ByT5 needs 384"):
        T5TextEncoder(TextEncoder(config=CONFIG | {"vocab_size": 10}))
    for fields in ({}, {"config": CONFIG, "pretrained": {"id": "somewhere"}}):
        with pytest.raises(ValidationError, match="exactly one of pretrained"):
            TextEncoder(**fields)

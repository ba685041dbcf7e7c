# SPDX-License-Identifier: Apache-2.0
"""Embeddings of DINOv2 and CLIP: network inputs, position embeddings, weight files."""

import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

import evaluation.embeddings
from dcae.benchmark.entries import NetworkWeights
from dcae.weights import WeightsError
from evaluation.embeddings import (
    clip_embedding,
    clip_input,
    dinov2_embedding,
    dinov2_input,
    load_dinov2,
    resized_positions,
)
from tests.evaluation.test_pixels import photographs


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(evaluation.embeddings.DINOV2, "dinov2-tiny", (32, 2, 2))


def stored(path, seed: int = 0) -> Dinov2Model:
    """A model of 518 px as transformers stores it."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=518)
    model = Dinov2Model(config).eval()
    model.save_pretrained(path.parent / "saved")
    (path.parent / "saved" / "model.safetensors").rename(path)
    return model


def named(monkeypatch, path) -> NetworkWeights:
    monkeypatch.setattr(evaluation.embeddings, "find", lambda name: path)
    return NetworkWeights(network="dinov2-tiny", weights="some-file")


def test_the_embedding_is_the_class_token_of_transformers_own_model(tmp_path, monkeypatch):
    theirs = stored(tmp_path / "dinov2.safetensors")
    embedding = dinov2_embedding(named(monkeypatch, tmp_path / "dinov2.safetensors"), "cpu")
    # With Meta's position embeddings in its place; transformers resizes them by a slightly other scale.
    positions = theirs.embeddings.position_embeddings.detach()
    theirs.embeddings.position_embeddings = torch.nn.Parameter(resized_positions(positions))
    images = photographs()
    with torch.no_grad():
        expected = theirs(dinov2_input(images)).pooler_output
    torch.testing.assert_close(embedding(images), expected, rtol=1e-5, atol=1e-6)


def test_position_embeddings_are_resized_as_in_metas_code():
    positions = torch.randn(1, 1 + 37 * 37, 4, generator=torch.Generator().manual_seed(0))
    resized = resized_positions(positions)
    assert resized.shape == (1, 1 + 16 * 16, 4)
    assert torch.equal(resized[:, 0], positions[:, 0])
    grid = positions[:, 1:].reshape(1, 37, 37, 4).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    torch.testing.assert_close(resized[:, 1:], expected.permute(0, 2, 3, 1).reshape(1, 256, 4))
    plain = F.interpolate(grid, size=(16, 16), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 256, 4)
    assert (resized[:, 1:] - plain).abs().max() > 0.01  # the offset counts


def test_a_file_of_another_network_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "other.safetensors"
    save_file({"something": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="does not fit"):
        load_dinov2(named(monkeypatch, path))
    with pytest.raises(ValueError, match="resnet"):
        load_dinov2(NetworkWeights(network="resnet", weights="random"))


def test_network_inputs_are_antialiased():
    stripes = (torch.arange(1024) % 2 * 255).to(torch.uint8).expand(1, 3, 1024, -1)
    assert dinov2_input(stripes).std(dim=(2, 3)).max() < 0.05
    assert clip_input(stripes, 336).std(dim=(2, 3)).max() < 0.3
    assert dinov2_input(stripes).shape == (1, 3, 224, 224)


def test_clip_embeddings_have_length_one_and_come_from_the_model_that_is_named(tmp_path):
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "ViT-embedding.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    embedding = clip_embedding(NetworkWeights(network="ViT-embedding", weights="random"), "cpu")
    found = embedding(photographs())
    assert found.shape == (4, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))

# SPDX-License-Identifier: Apache-2.0
"""Embeddings of DINOv2 and CLIP: network inputs, position embeddings, weight files."""

import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

import evaluation.features.dinov2_clip
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import NetworkWeights, PhotographsEntry
from dcae.data.loading import open_dataset
from dcae.weights.catalogue import WeightsError
from evaluation.features.dinov2_clip import (
    clip_embedding,
    clip_input,
    dinov2_embedding,
    dinov2_input,
    load_dinov2,
    resized_positions,
)
from evaluation.features.reference import ReferenceError, batches, write_reference
from evaluation.metrics.frechet import frechet_distance_of_features
from evaluation.quality.reconstruction import evaluate_reconstruction, reconstruct_pixels
from tests.evaluation.metrics.test_psnr_ssim import photographs


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(evaluation.features.dinov2_clip.DINOV2, "dinov2-tiny", (32, 2, 2))


def stored(path, seed: int = 0) -> Dinov2Model:
    """A model of 518 px as transformers stores it."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=518)
    model = Dinov2Model(config).eval()
    model.save_pretrained(path.parent / "saved")
    (path.parent / "saved" / "model.safetensors").rename(path)
    return model


def named(monkeypatch, path) -> NetworkWeights:
    monkeypatch.setattr(evaluation.features.dinov2_clip, "find", lambda name: path)
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


def test_one_pass_gives_fd_dinov2_and_cmmd_beside_rfid(tmp_path):
    """Features of all three networks from the same reconstructions, against one reference."""
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "ViT-one-pass.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    networks = {
        "dinov2": NetworkWeights(network="dinov2-tiny", weights="random"),
        "cmmd": NetworkWeights(network="ViT-one-pass", weights="random"),
    }
    plain = Config().entry("protocols", "random-features").model_copy(update={"reconstruction_images": 6})
    protocol = plain.model_copy(update=networks)
    entry = PhotographsEntry(name="photographs", kind="photographs", train_images=8, validation_images=8)
    dataset = open_dataset(entry, "validation", 64)
    reference = tmp_path / "reference.safetensors"
    write_reference(dataset, 6, protocol, reference)

    def values(name: str) -> dict:
        return evaluate_reconstruction(load(name), dataset, protocol, reference).values

    blur, mean_colour = values("blur"), values("mean-colour")
    for metric in ("rfid", "fd_dinov2", "cmmd"):
        assert blur[metric].random_features and blur[metric].n == 6
        assert 0 < blur[metric].value < mean_colour[metric].value
        assert len(blur[metric].leave_group_out) == 6
    images = next(batches(dataset, 6, 6))
    outputs = reconstruct_pixels(load("blur"), images)
    dinov2 = dinov2_embedding(networks["dinov2"], "cpu")
    expected = frechet_distance_of_features(dinov2(outputs), dinov2(images))
    assert blur["fd_dinov2"].value == pytest.approx(expected, rel=1e-4)  # of float32 features
    write_reference(dataset, 6, plain, reference)
    with pytest.raises(ReferenceError, match="features of dinov2"):
        values("blur")

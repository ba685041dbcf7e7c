# SPDX-License-Identifier: Apache-2.0
"""CLIP score against open_clip's own preprocessing and model, at tiny width; weight files and the QuickGELU trap."""

import json
import warnings

import numpy as np
import open_clip
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import save_file

import evaluation.features.clip_score
from dcae.benchmark.entries import NetworkWeights
from evaluation.features.clip_score import ClipScore, load_clip, preprocess

CAPTIONS = ["a picture of an astronaut", "a cup of coffee"]
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory):
    """Two models that open_clip knows by name from here on; they differ in their activation."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "ViT-tiny.json").write_text(json.dumps(TINY))
    (folder / "ViT-tiny-quickgelu.json").write_text(json.dumps({**TINY, "quick_gelu": True}))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    crops = [skimage.data.astronaut()[:160, 150:310], skimage.data.coffee()[100:260, 200:360]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def random_weights(network: str = "ViT-tiny", seed: int = 0) -> NetworkWeights:
    return NetworkWeights(network=network, weights="random", seed=seed)


def from_file(monkeypatch, path, network: str) -> NetworkWeights:
    monkeypatch.setattr(evaluation.features.clip_score, "find", lambda name: path)
    return NetworkWeights(network=network, weights="some-file")


def test_score_is_a_hundred_cosines_of_open_clips_own_pipeline(images):
    score = ClipScore(random_weights())
    theirs, _, transform = open_clip.create_model_and_transforms("ViT-tiny", pretrained=None)
    theirs.load_state_dict(score.model.state_dict())
    pixels = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    with torch.no_grad():
        image_features = theirs.eval().encode_image(pixels)
        text_features = theirs.encode_text(open_clip.get_tokenizer("ViT-tiny")(CAPTIONS))
    expected = 100 * torch.cosine_similarity(image_features, text_features)
    torch.testing.assert_close(score(images, CAPTIONS).float(), expected, atol=0.01, rtol=0)
    assert expected.abs().min() > 1  # far from 0, so the tolerance is small beside it


@pytest.mark.parametrize("side", [40, 64, 160])
def test_preprocessing_is_open_clips(side, images):
    image = images[:1, :, :side, :side]
    _, _, transform = open_clip.create_model_and_transforms("ViT-tiny", pretrained=None)
    expected = transform(Image.fromarray(image[0].permute(1, 2, 0).numpy()))[None]
    grey_levels = (preprocess(image, 64) - expected).abs() * 255 * min(open_clip.OPENAI_DATASET_STD)
    assert grey_levels.max() < 1.1
    assert grey_levels.mean() < 0.01, "a resize in float32 would move one pixel in eight"


def test_each_image_is_scored_against_its_own_caption(images):
    score = ClipScore(random_weights())
    both = score(images, CAPTIONS)
    assert torch.allclose(score(images.flip(0), CAPTIONS[::-1]), both.flip(0), atol=1e-4)
    assert not torch.allclose(score(images, CAPTIONS[::-1]), both, atol=1e-2)
    with pytest.raises(ValueError, match="one caption for each"):
        score(images, CAPTIONS[:1])


def test_long_captions_are_cut_and_scores_are_not_clamped(images):
    scores = [ClipScore(random_weights(seed=seed))(images, ["word " * 200] * 2) for seed in range(3)]
    assert torch.cat(scores).min() < 0


def test_images_that_are_not_square_or_not_uint8_are_errors(images):
    with pytest.raises(ValueError, match="square"):
        preprocess(images[:, :, :100], 64)
    with pytest.raises(ValueError, match="square uint8"):
        preprocess(images.float(), 64)


def test_unknown_models_are_errors():
    with pytest.raises(ValueError, match="ViT-none"):
        load_clip(random_weights("ViT-none"))


# --- weight files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_read_from_a_file(suffix, tmp_path, monkeypatch, images):
    expected = ClipScore(random_weights(seed=5))
    path = tmp_path / f"clip{suffix}"
    state = {name: value.contiguous() for name, value in expected.model.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    score = ClipScore(from_file(monkeypatch, path, "ViT-tiny"))
    assert torch.equal(score(images, CAPTIONS), expected(images, CAPTIONS))


class Holder(torch.nn.Module):
    """Parameters under CLIP's names, as in OpenAI's archives, which also hold three numbers and are half precision."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self._parameters.update(model._parameters)
        for name, child in model.named_children():
            self.add_module(name, Holder(child))

    def forward(self):
        return torch.zeros(1)


@pytest.fixture(scope="module")
def openai_archive(tmp_path_factory):
    model = Holder(load_clip(random_weights(seed=5))).half()
    for name in ("input_resolution", "context_length", "vocab_size"):
        model.register_buffer(name, torch.tensor(1))
    path = tmp_path_factory.mktemp("openai") / "ViT-tiny.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(model), path)
    return path


def test_openais_archives_are_read(openai_archive, monkeypatch):
    loaded = load_clip(from_file(monkeypatch, openai_archive, "ViT-tiny-quickgelu"))
    expected = load_clip(random_weights("ViT-tiny-quickgelu", seed=5))
    for name, value in expected.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0, msg=name)


def test_openais_weights_need_quickgelu(openai_archive, monkeypatch, images):
    with pytest.raises(ValueError, match="ViT-tiny-quickgelu"):
        load_clip(from_file(monkeypatch, openai_archive, "ViT-tiny"))
    # It would have gone unnoticed otherwise: the same weights fit both, and the scores differ.
    scores = [ClipScore(random_weights(name))(images, CAPTIONS) for name in ("ViT-tiny", "ViT-tiny-quickgelu")]
    assert not torch.allclose(*scores, atol=0.05)


@pytest.mark.parametrize("network", ["ViT-tiny", "ViT-tiny-quickgelu"])
def test_on_images_of_the_networks_size_the_score_is_open_clips_to_rounding(network, images):
    """Nothing is resized, so PIL's rounding plays no part: 1e-4 relative."""
    score = ClipScore(random_weights(network))
    theirs, _, transform = open_clip.create_model_and_transforms(network, pretrained=None)
    theirs.load_state_dict(score.model.state_dict())
    small = images[:, :, :64, :64]
    pixels = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in small])
    with torch.no_grad():
        image_features = theirs.eval().encode_image(pixels)
        text_features = theirs.encode_text(open_clip.get_tokenizer(network)(CAPTIONS))
    expected = 100 * torch.cosine_similarity(image_features, text_features)
    torch.testing.assert_close(score(small, CAPTIONS).float(), expected, rtol=1e-4, atol=1e-5)

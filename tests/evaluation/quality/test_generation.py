# SPDX-License-Identifier: Apache-2.0
"""Generation metrics on an untrained denoiser: what is paired with what, and what does not change the numbers."""

import json
import re
from dataclasses import replace
from functools import partial

import open_clip
import pytest
import torch

import evaluation.features.extractor
import evaluation.quality.generation
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import DiffusionEntry, NetworkWeights, NoiseSchedule, Protocol, ScenesEntry
from dcae.data.loading import open_dataset
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.captions.encode import encode_captions
from dcae.diffusion.latents.cached import LatentDataset
from dcae.diffusion.latents.encode import encode_dataset
from dcae.diffusion.models.build import build_denoiser
from evaluation.features.quantisation import to_uint8
from evaluation.features.reference import ReferenceError, write_reference
from evaluation.metrics.frechet import frechet_distance_of_features
from evaluation.quality.generation import class_captions, evaluate_generation, guidance_scales, real_image_controls
from evaluation.quality.sample_set import ImageSource, write_sample_set

ENTRY = DiffusionEntry(
    name="tiny",
    kind="u-vit",
    depth=2,
    width=32,
    heads=2,
    recipe="none",
    sampler="dpm-solver++",
    sampling_steps=4,
    guidance_scale=3.0,
)
SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
IMAGES = 10


class FewFeatures:
    """In place of the Inception network: 48 mean colours."""

    def __init__(self, protocol: Protocol, device: str, network: None = None):
        pass

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), images.shape[-1] // 4).flatten(1)


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    monkeypatch.setattr(evaluation.features.extractor, "load_inception", lambda weights, device: None)
    monkeypatch.setattr(evaluation.features.extractor, "InceptionFeatures", FewFeatures)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Protocol:
    """The demo's, with a tiny CLIP model."""
    folder = tmp_path_factory.mktemp("models")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (folder / "ViT-generation.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    clip = NetworkWeights(network="ViT-generation", weights="random")
    numbers = {"generation_images": IMAGES, "generation_reference_images": 12}
    return Config().entry("protocols", "random-features").model_copy(update={"clip": clip, **numbers})


@pytest.fixture(scope="module")
def dataset():
    entry = ScenesEntry(name="scenes", kind="scenes", train_images=12, validation_images=4)
    return open_dataset(entry, "train", 64)


@pytest.fixture(scope="module")
def latents(dataset, tmp_path_factory) -> LatentDataset:
    folder = tmp_path_factory.mktemp("latents")
    encode_dataset(load("blur"), dataset, folder, identity={"autoencoder": "blur"})
    return LatentDataset(folder)


@pytest.fixture
def parts(dataset, latents, protocol, tmp_path):
    """Arguments of ``evaluate_generation``."""
    reference = tmp_path / "reference.safetensors"
    write_reference(dataset, protocol.generation_reference_images, protocol, reference)
    channels, side, _ = latents.shape
    torch.manual_seed(0)
    denoiser = build_denoiser(ENTRY, channels, side, 2, latents.classes)
    with torch.no_grad():
        denoiser.output.weight.normal_(0, 0.5)  # fresh weights hardly look at the label
        denoiser.label_embedding.weight.mul_(5)
    return {
        "source": ImageSource(denoiser.eval(), ENTRY, SCHEDULE, load("blur"), latents.shape, latents.classes, seed=0),
        "class_names": dataset.classes,
        "dataset": dataset,
        "protocol": protocol,
        "reference": reference,
        "folder": tmp_path / "features",
        "identity": {"test": "generation"},
    }


def test_values_with_and_without_guidance(parts):
    result = evaluate_generation(**parts)
    names = ("fid", "kid", "precision", "recall", "clip_score")
    settings = ("without_guidance", "with_guidance")
    assert set(result.values) == {f"{name}_{setting}" for name in names for setting in settings}
    for name, value in result.values.items():
        assert value.n == (12 if name.startswith("recall") else IMAGES)  # recall is a share of the reference
        assert value.random_features
        assert value.standard_error > 0 or value.value in (0, 1)
    assert set(result.excluded) == {f"fid_infinity_{setting}" for setting in settings}
    assert "needs at least 25000 images, there are 10" in result.excluded["fid_infinity_with_guidance"]
    assert result.values["fid_without_guidance"].value != result.values["fid_with_guidance"].value
    assert list(result.samples) == ["without_guidance", "with_guidance"]
    for images in result.samples.values():
        assert images.shape == (8, 3, 64, 64)
        assert images.dtype == torch.uint8


def test_batch_size_and_earlier_random_numbers_do_not_matter(parts, tmp_path):
    first = evaluate_generation(**parts, batch_size=3)
    torch.manual_seed(123)
    second = evaluate_generation(**{**parts, "folder": tmp_path / "second"}, batch_size=16)
    for name, value in first.values.items():
        if name.startswith(("fid", "clip_score")):
            assert value.value == pytest.approx(second.values[name].value, rel=1e-3)  # an 8-bit value may flip
    other = {"source": replace(parts["source"], seed=1), "folder": tmp_path / "other"}
    other_seed = evaluate_generation(**{**parts, **other})
    assert other_seed.values["fid_without_guidance"].value != pytest.approx(
        first.values["fid_without_guidance"].value, rel=1e-3
    )


def test_whoever_ends_last_has_the_values_even_if_it_did_not_complete_every_set(parts, tmp_path, monkeypatch):
    """One of two processes completes the first set, the other one the second."""
    alone = evaluate_generation(**parts)
    monkeypatch.setattr(evaluation.quality.generation, "write_sample_set", partial(write_sample_set, shard_size=4))
    together = {**parts, "folder": tmp_path / "together"}
    unguided = ImageSource.images
    others: list = []

    def the_other_one_in_between(self, indices, guidance_scale):
        if guidance_scale != 1 and not others:
            others.append(None)  # between the two sets of process 0
            monkeypatch.setattr(ImageSource, "images", unguided)
            others[0] = evaluate_generation(**together, process=1, processes=2)
        return unguided(self, indices, guidance_scale)

    monkeypatch.setattr(ImageSource, "images", the_other_one_in_between)
    last = evaluate_generation(**together, process=0, processes=2)
    assert others == [None]
    for name, value in alone.values.items():
        assert last.values[name].value == pytest.approx(value.value, rel=1e-3)  # an 8-bit value may flip
    for name, images in alone.samples.items():
        assert (images[:4].float() - last.samples[name].float()).abs().max() <= 1


def test_captions_of_other_images_than_samples_are_compared_with_are_refused(parts, tmp_path):
    fewer = open_dataset(ScenesEntry(name="s", kind="scenes", train_images=7, validation_images=1), "train", 64)
    encode_captions(
        lambda captions: (torch.zeros(len(captions), 2, 3), torch.ones(len(captions), 2)), fewer, tmp_path / "c", {}
    )
    source = replace(parts["source"], captions=CaptionDataset(tmp_path / "c"))
    with pytest.raises(ValueError, match="holds 7 captions, but samples are compared with a dataset of 12"):
        evaluate_generation(**{**parts, "source": source})


def test_fid_is_that_of_all_samples_against_the_reference(parts, protocol, dataset):
    result = evaluate_generation(**parts)
    images, labels = parts["source"].images(range(IMAGES), 3.0)
    real = torch.stack([dataset[k].image for k in range(12)])
    features = FewFeatures(protocol, "cpu")
    images = to_uint8(images)
    expected = frechet_distance_of_features(features(images), features(real))
    assert result.values["fid_with_guidance"].value == pytest.approx(expected, rel=1e-6)
    assert labels.shape == (IMAGES,)
    assert torch.equal(result.samples["with_guidance"], images[:8])


def test_each_sample_is_scored_against_the_caption_of_its_label(parts, monkeypatch):
    seen: list[str] = []

    class Listener:
        def __call__(self, images, captions):
            seen.extend(captions)
            return torch.zeros(len(images), dtype=torch.float64)

    monkeypatch.setattr(evaluation.quality.generation, "_load_clip_score", lambda weights, device: Listener())
    result = evaluate_generation(**parts)
    labels = parts["source"].images(range(IMAGES), 1.0)[1].tolist()
    assert result.prompts == [parts["class_names"][label] for label in labels[:8]]
    captions = class_captions(parts["class_names"])
    assert len(set(labels)) > 2
    assert seen == [captions[label] for label in labels] * 2  # both settings have the same labels


def test_settings():
    assert guidance_scales(ENTRY, classes=12) == {"without_guidance": 1.0, "with_guidance": 3.0}
    assert guidance_scales(ENTRY, classes=0) == {"without_guidance": 1.0}
    assert guidance_scales(ENTRY.model_copy(update={"guidance_scale": 1.0}), classes=12) == {"without_guidance": 1.0}
    assert class_captions(["face", "sea_anemone"]) == ["a picture of face", "a picture of sea anemone"]


def test_classes_of_imagenet_are_captioned_by_name_not_by_wordnet_id():
    from timm.data import ImageNetInfo

    assert class_captions(["n01440764", "n02007558"]) == ["a picture of tench", "a picture of flamingo"]
    every = class_captions(ImageNetInfo("imagenet-1k").label_names())
    assert len(every) == 1000 and not any(re.search(r"n\d{8}", caption) for caption in every)
    with pytest.raises(ValueError, match="class n99999999 is a WordNet id of no class"):
        class_captions(["n01440764", "n99999999"])


def test_a_protocol_without_clip_has_no_clip_score(parts, protocol):
    result = evaluate_generation(**{**parts, "protocol": protocol.model_copy(update={"clip": None})})
    assert not any(name.startswith("clip_score") for name in result.values)


def test_every_protocol_gives_of_the_same_samples_what_it_gives_alone(parts, protocol, dataset, tmp_path, monkeypatch):
    """The second one differs in its resize, the third one in its rounding, the fourth one in its CLIP model alone."""
    changes = {
        "clean": {"inception_resize": "clean"},
        "truncating": {"quantisation": "truncate"},
        "other-clip": {"clip": protocol.clip.model_copy(update={"seed": 7})},
    }
    further = [protocol.model_copy(update={"name": name, **each}) for name, each in changes.items()]
    reference = tmp_path / "all.safetensors"
    write_reference(dataset, protocol.generation_reference_images, protocol, reference, further=further)
    calls = []
    original = ImageSource.images
    monkeypatch.setattr(ImageSource, "images", lambda *given: calls.append(given[1]) or original(*given))
    shared = {**parts, "reference": reference, "batch_size": IMAGES}
    together = evaluate_generation(**{**shared, "folder": tmp_path / "together"}, further=further)
    assert len(calls) == 2  # the samples of each setting are made once
    assert list(together.further) == list(changes)
    for each in (protocol, *further):
        alone = evaluate_generation(**{**shared, "protocol": each, "folder": tmp_path / each.name})
        found = together.further.get(each.name) or together
        assert found.values.keys() == alone.values.keys()
        assert found.excluded.keys() == alone.excluded.keys()
        for name, value in found.values.items():
            assert value.value == pytest.approx(alone.values[name].value, rel=1e-6, abs=1e-9), name
    main = together.values
    assert together.further["truncating"].values["fid_with_guidance"] != main["fid_with_guidance"]
    assert together.further["other-clip"].values["fid_with_guidance"] == main["fid_with_guidance"]
    assert together.further["other-clip"].values["clip_score_with_guidance"] != main["clip_score_with_guidance"]


def test_a_reference_of_other_images_is_refused(parts, dataset):
    other = open_dataset(ScenesEntry(name="s", kind="scenes", train_images=12, validation_images=12), "validation", 64)
    with pytest.raises(ReferenceError, match="dataset"):
        evaluate_generation(**{**parts, "dataset": other})


def test_samples_that_are_not_finite_are_errors(parts):
    with torch.no_grad():
        parts["source"].denoiser.output.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="tiny: decoded samples hold NaN"):
        evaluate_generation(**parts)


def test_real_images_bound_what_samples_can_reach(parts, dataset, protocol):
    entry = ScenesEntry(name="s", kind="scenes", train_images=1, validation_images=12)
    other = open_dataset(entry, "validation", 64)
    shared = {"dataset": dataset, "reference": parts["reference"], "protocols": [protocol]}
    found = {
        name: real_image_controls(load(name), other, **shared)[protocol.name].values for name in ("identity", "blur")
    }
    real = found["identity"]["fid_of_real_images"]
    assert real.n == IMAGES and real == found["blur"]["fid_of_real_images"]
    assert found["identity"]["fid_of_autoencoded_images"].value == pytest.approx(real.value, rel=1e-6)
    assert found["blur"]["fid_of_autoencoded_images"] != real
    same = real_image_controls(load("identity"), dataset, **shared)[protocol.name].values
    assert same["fid_of_real_images"].value < real.value

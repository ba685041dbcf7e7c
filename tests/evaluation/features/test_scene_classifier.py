# SPDX-License-Identifier: Apache-2.0
"""The classifier of scenes: its weights are in the repository, name what is drawn, and are safe to load."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from dcae.benchmark.config import Config
from dcae.benchmark.entries import NetworkWeights
from dcae.data.scenes.dataset import Scenes
from dcae.weights.catalogue import find
from evaluation.features.extractor import Extractor
from evaluation.features.scene_classifier import NETWORK, SceneFeatures, load_scene_classifier, train, words_of

TRAINED = NetworkWeights(network=NETWORK, weights=NETWORK)


@pytest.mark.parametrize("resolution", [64, 128])
def test_it_names_the_classes_of_validation_scenes(resolution):
    scenes = Scenes(0, "validation", 48, resolution)
    head = {name: value for name, value in load_file(find(NETWORK)).items() if name.startswith("head.")}
    features = SceneFeatures(load_scene_classifier(TRAINED))(scenes.batch(range(48)))
    named = F.linear(features, head["head.weight"], head["head.bias"])[:, : len(scenes.classes)].argmax(dim=1)
    assert (named == torch.arange(48) % len(scenes.classes)).float().mean() > 0.95


def test_the_protocols_take_it_in_the_place_of_inception():
    protocols = [Config().entry("protocols", name) for name in ("scene-features", "random-scene-features")]
    extractor = Extractor(protocols)
    found = extractor(Scenes(0, "validation", 3, 64).batch(range(3)))
    assert {rows.shape for rows in found.values()} == {(3, 192)} and len(found) == 2


def test_images_of_other_types_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        SceneFeatures(load_scene_classifier(TRAINED))(torch.zeros(1, 3, 64, 64))


def test_its_training_learns(tmp_path):
    found = train(tmp_path / "weights.safetensors", images=240, epochs=4, validation_images=48)
    assert found["class"] > 0.3
    assert words_of('the words "BLUE RIVER" printed in red on pink paper') == {
        "the",
        "words",
        "printed",
        "in",
        "red",
        "on",
        "pink",
        "paper",
    }

# SPDX-License-Identifier: Apache-2.0
"""Inception features against torch-fidelity's own extractor and clean-fid's resizers, with the same random weights."""

import socket

import numpy as np
import pytest
import skimage.data
import torch

import evaluation.features.inception
from dcae.benchmark import Config
from dcae.benchmark.entries import NetworkWeights, Protocol
from dcae.weights.catalogue import WeightsError
from evaluation.features.extractor import feature_sets
from evaluation.features.fingerprints import fingerprint, weights_identity
from evaluation.features.inception import RESIZES, InceptionFeatures, load_inception


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """uint8 [2, 3, 160, 160]."""
    crops = [skimage.data.astronaut()[:160, 150:310], skimage.data.coffee()[100:260, 200:360]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Random weights in the form of the published file: with the classifier, without counts of batches."""
    network = load_inception(NetworkWeights(network="inception-v3", weights="random", seed=3))
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(len(name)))
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def from_file(weight_file, monkeypatch) -> NetworkWeights:
    """Weights of the name ``some-file``, which is that file."""
    monkeypatch.setattr(evaluation.features.inception, "find", {"some-file": weight_file}.__getitem__)
    return NetworkWeights(network="inception-v3", weights="some-file")


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return Config().entry("protocols", "random-features")


def test_features_are_those_of_torch_fidelity(images, weight_file, from_file, protocol):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=weight_file)
    ours = InceptionFeatures(protocol.model_copy(update={"inception": from_file, "inception_resize": "tensorflow1"}))
    expected, features = theirs(images)[0], ours(images)
    assert features.shape == (2, 2048)
    assert features.dtype == torch.float32
    assert features.std() > 0.01
    # Another memory layout sums in another order; 94 layers of float32.
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_clean_resize_is_clean_fids(images):
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    expected = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images])  # [B, 299, 299, 3], 0 ... 255
    resized = RESIZES["clean"](images).permute(0, 2, 3, 1).numpy() * 128 + 128
    np.testing.assert_allclose(resized, expected, atol=1e-4)  # float32 of 255


def test_clean_resize_shrinks_without_aliasing():
    """Stripes of one pixel become grey; without antialiasing they turn into a pattern."""
    stripes = (torch.arange(1024) % 2 * 255).to(torch.uint8).expand(1, 3, 1024, -1)
    assert RESIZES["clean"](stripes).std() < 0.05 < 0.3 < RESIZES["bilinear"](stripes).std()


def test_bilinear_resize_is_pytorch_fids(images):
    from cleanfid.resize import make_resizer

    resize = make_resizer("PyTorch", False, "bilinear", (299, 299))
    expected = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images]) / 127.5 - 1
    np.testing.assert_allclose(RESIZES["bilinear"](images).permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_resizes_differ(images):
    resized = [resize(images) for resize in RESIZES.values()]
    for k, first in enumerate(resized):
        for second in resized[k + 1 :]:
            assert (first - second).abs().mean() > 0.004  # 0.5 of 255 and more


def test_random_weights_depend_on_the_seed_alone(images, protocol):
    def features(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed())
        weights = NetworkWeights(network="inception-v3", weights="random", seed=seed)
        return InceptionFeatures(protocol.model_copy(update={"inception": weights}))(images)

    assert torch.equal(features(0), features(0))
    assert (features(0) - features(1)).abs().mean() > 0.01


def test_nothing_is_downloaded(monkeypatch, tmp_path):
    def refuse(*arguments):
        raise AssertionError("this went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no cached file either
    load_inception(NetworkWeights(network="inception-v3", weights="random"))
    with pytest.raises(WeightsError, match="no weights named"):
        load_inception(NetworkWeights(network="inception-v3", weights="in-no-catalogue"))


def test_other_networks_and_float_images_are_errors(protocol):
    with pytest.raises(ValueError, match="resnet"):
        load_inception(NetworkWeights(network="resnet", weights="random"))
    with pytest.raises(TypeError, match="uint8"):
        InceptionFeatures(protocol)(torch.zeros(1, 3, 64, 64))


# --- fingerprints ---------------------------------------------------------------------------------------------------


def test_fingerprint_changes_with_what_decides_values_only(protocol):
    base = fingerprint(protocol)
    assert fingerprint(protocol.model_copy(update={"description": "another one", "name": "other"})) == base
    for field, value in [("inception_resize", "clean"), ("reconstruction_images", 7), ("clip", None)]:
        assert fingerprint(protocol.model_copy(update={field: value})) != base
    other_seed = protocol.inception.model_copy(update={"seed": 1})
    assert fingerprint(protocol.model_copy(update={"inception": other_seed})) != base


def test_features_do_not_depend_on_other_metrics(protocol):
    def of(**changes) -> str:
        return feature_sets(protocol.model_copy(update=changes))["inception"].fingerprint

    assert of(clip=None, generation_images=9, quantisation="truncate") == of()
    assert of(inception_resize="clean") != of()


def test_fingerprint_changes_with_the_content_of_a_weight_file(protocol, monkeypatch, tmp_path):
    path = tmp_path / "weights.pth"
    monkeypatch.setattr("evaluation.features.fingerprints.find", lambda name: path)
    weights = NetworkWeights(network="inception-v3", weights="some-file")
    named = protocol.model_copy(update={"inception": weights})
    found = []
    for content in (b"one", b"another"):
        path.write_bytes(content)
        found += [fingerprint(named), feature_sets(named)["inception"].fingerprint]
        assert weights_identity(weights).startswith("sha256:")
    assert len(set(found)) == 4


@pytest.mark.parametrize("name", ["demo-efficiency", "paper", "modern", "end-to-end", "autoencoders", "paper-cpu"])
def test_efficiency_protocols_have_a_fingerprint(name):
    entry = Config().entry("protocols", name)
    assert fingerprint(entry) != fingerprint(entry.model_copy(update={"training_batch_size": 3}))


def test_the_papers_protocol_names_real_weights_and_the_demos_says_that_it_has_none(protocol):
    paper = Config().entry("protocols", "dc-ae")
    assert not paper.random_features
    assert paper.inception_resize == "bilinear"
    assert paper.lpips.network == "alex"
    assert paper.clip.network.endswith("-quickgelu")  # OpenAI's weights need it
    assert protocol.random_features

# SPDX-License-Identifier: Apache-2.0
"""Feature extraction shared by all protocols of a pass: each feature set is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import NetworkWeights, Protocol
from evaluation.features import scene_classifier
from evaluation.features.fingerprints import features_fingerprint
from evaluation.features.inception import InceptionFeatures, load_inception
from evaluation.features.quantisation import to_uint8
from evaluation.metrics.registry import METRICS, QualityMetric, set_metrics

# The resize of networks whose input is defined in ``evaluation.features.dinov2_clip``.
OWN_RESIZE = "own"


@dataclass(frozen=True)
class FeatureSet:
    """Features of one network at one resize of its input.

    Attributes:
        role: the field of the protocol that names the network: ``inception``, ``dinov2`` or ``cmmd``.
        protocol: names weights, resize and crop.
    """

    role: str
    protocol: Protocol

    @property
    def weights(self) -> NetworkWeights:
        return getattr(self.protocol, self.role)

    @property
    def resize(self) -> str:
        return self.protocol.inception_resize if self.role == "inception" else OWN_RESIZE

    @property
    def name(self) -> str:
        """Name of the features within a pass: two sets of one name are the same features."""
        weights = self.weights
        which = f"random-{weights.seed}" if weights.random else weights.weights
        return f"{self.role}:{weights.network}:{which}:{self.resize}"

    @property
    def fingerprint(self) -> str:
        """Return 16 hex digits that change with anything that decides the features of an image."""
        return features_fingerprint(self.weights, self.resize, self.protocol.crop)


def feature_sets(protocol: Protocol, metrics: Sequence[QualityMetric] = METRICS) -> dict[str, FeatureSet]:
    """Return the sets by role that some metrics need, of the networks that a protocol names."""
    roles = dict.fromkeys(metric.features for metric in set_metrics(metrics))
    return {role: FeatureSet(role, protocol) for role in roles if getattr(protocol, role)}


def distinct(protocols: Iterable[Protocol], metrics: Sequence[QualityMetric] = METRICS) -> dict[str, FeatureSet]:
    """Return the sets of all protocols by name, each once."""
    return {each.name: each for protocol in protocols for each in feature_sets(protocol, metrics).values()}


def to_host(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, and wait for the device once for all of them."""
    copies = {name: each.to("cpu", non_blocking=True) for name, each in values.items()}
    devices = {each.device for each in values.values()} - {torch.device("cpu")}
    for device in devices:
        torch.accelerator.synchronize(device)
    return copies


class Extractor:
    """Features of images for all protocols of a pass: one forward for each distinct set.

    Protocols that differ in the resize alone share one Inception network.

    Args:
        protocols: name networks, weights and resizes.
        device: where the networks run.
        metrics: that the features are for.

    Raises:
        WeightsError: a weight file that a protocol names is missing or has the wrong content; before any image is read.
    """

    def __init__(
        self,
        protocols: Iterable[Protocol],
        device: str | torch.device = "cpu",
        metrics: Sequence[QualityMetric] = METRICS,
    ):
        self.device, self.metrics = torch.device(device), metrics
        self._inception: dict[NetworkWeights, nn.Sequential] = {}
        self.networks = {name: self._network(each) for name, each in distinct(protocols, metrics).items()}

    def _network(self, each: FeatureSet):
        if each.role == "inception":
            if each.weights.network == scene_classifier.NETWORK:
                network = scene_classifier.load_scene_classifier(each.weights, self.device)
                return scene_classifier.SceneFeatures(network)
            if each.weights not in self._inception:
                self._inception[each.weights] = load_inception(each.weights, self.device)
            return InceptionFeatures(each.protocol, self.device, self._inception[each.weights])
        from evaluation.features.dinov2_clip import clip_embedding, dinov2_embedding  # slow to import

        return {"dinov2": dinov2_embedding, "cmmd": clip_embedding}[each.role](each.weights, self.device)

    def by_quantisation(
        self, images: Tensor, protocols: Iterable[Protocol]
    ) -> Iterator[tuple[str, Tensor, list[Protocol], dict[str, Tensor]]]:
        """Quantise images as each protocol does, and extract their features.

        Args:
            images: in [-1, 1], float [B, 3, H, W].
            protocols: some of this extractor's.

        Yields:
            For each distinct quantisation: its name; the images, uint8 [B, 3, H, W]; the protocols that name it;
            features by ``quantisation/set``.
        """
        protocols = list(protocols)
        for quantisation in dict.fromkeys(each.quantisation for each in protocols):
            pixels = to_uint8(images, quantisation)
            sharing = [each for each in protocols if each.quantisation == quantisation]
            features = self(pixels, distinct(sharing, self.metrics))
            yield quantisation, pixels, sharing, {f"{quantisation}/{name}": rows for name, rows in features.items()}

    def __call__(self, images: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return features by set, float32 [B, d] on the CPU, of uint8 images [B, 3, H, W]; default: of all sets.

        Raises:
            ValueError: features that are not finite.
        """
        images = images.to(self.device, non_blocking=True)
        wanted = self.networks if names is None else names
        found = to_host({name: self.networks[name](images).float() for name in wanted})
        for name, features in found.items():
            if not features.isfinite().all():
                raise ValueError(f"{name}: the network gives NaN or infinity: are its weights the right ones?")
        return found

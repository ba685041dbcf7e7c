# SPDX-License-Identifier: Apache-2.0
"""One pass over a dataset for any number of protocols: decode once, autoencode once, feed every network.

The result is a table with one row per image, and columns of numbers and of feature vectors. Statistics are computed
from the whole table in the order of the images, so shards, processes and restarts change no result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from dcae.autoencoders.contract import OutputError, checked
from dcae.autoencoders.tiling import padded
from dcae.benchmark.entries import Protocol
from dcae.data.dataset import ImageDataset
from dcae.randomness import seeded
from evaluation.features.extractor import Extractor, feature_sets, to_host
from evaluation.features.fingerprints import weights_identity
from evaluation.features.quantisation import to_network
from evaluation.features.reference import batches
from evaluation.metrics.registry import METRICS, ImageMetric, QualityMetric, image_metrics
from evaluation.quality.latent_diagnostics import Probe, latent_rows

Table = dict[str, Tensor]  # column: [N] float64, or features [N, d] float32


def _column(metric: ImageMetric, protocol: Protocol) -> str:
    """Return the name of a metric's computation by a protocol, whatever the quantisation."""
    weights = metric.weights(protocol)
    if weights is None:
        return metric.name
    return f"{metric.name}:{weights.network}:{f'random-{weights.seed}' if weights.random else weights.weights}"


def columns(protocol: Protocol, metrics: Sequence[QualityMetric] = METRICS) -> dict[str, str]:
    """Return the column of each number of a protocol: per-image metrics by name, feature sets by role.

    Protocols that compute a number in the same way have the same column.
    """
    names = {metric.name: _column(metric, protocol) for metric in image_metrics(metrics)}
    names |= {role: each.name for role, each in feature_sets(protocol, metrics).items()}
    return {metric: f"{protocol.quantisation}/{name}" for metric, name in names.items()}


def table_identity(protocols: Iterable[Protocol], metrics: Sequence[QualityMetric] = METRICS) -> dict[str, str]:
    """Return each column of a pass with its identity besides images and autoencoder."""
    found = {}
    for protocol in protocols:
        names = columns(protocol, metrics)
        found |= {names[role]: each.fingerprint for role, each in feature_sets(protocol, metrics).items()}
        for metric in image_metrics(metrics):
            weights = metric.weights(protocol)
            found[names[metric.name]] = weights_identity(weights) if weights else ""
    return found


class OnePass:
    """Computes every number that some protocols ask for about pairs of images.

    Args:
        protocols: name networks, weights, resizes and quantisations.
        device: where everything runs.
        metrics: to compute.

    Raises:
        WeightsError: a weight file is missing or has the wrong content; before any image is read.
    """

    def __init__(
        self,
        protocols: Iterable[Protocol],
        device: str | torch.device = "cpu",
        metrics: Sequence[QualityMetric] = METRICS,
    ):
        self.protocols, self.metrics = list(protocols), image_metrics(metrics)
        self.device = torch.device(device)
        self.extractor = Extractor(self.protocols, device, metrics)
        wanted = {_column(m, each): (m, m.weights(each)) for each in self.protocols for m in self.metrics}
        self.of_pairs = {column: metric.load(weights, self.device) for column, (metric, weights) in wanted.items()}

    @torch.inference_mode()
    def compare(self, outputs: Tensor, inputs: Tensor) -> Table:
        """Return one row per pair.

        Args:
            outputs: reconstructions in [-1, 1], float [B, 3, H, W].
            inputs: their originals, uint8 [B, 3, H, W].
        """
        rows: Table = {}
        for quantisation, images, protocols, features in self.extractor.by_quantisation(outputs, self.protocols):
            rows |= features
            wanted = dict.fromkeys(_column(metric, each) for each in protocols for metric in self.metrics)
            rows |= to_host({f"{quantisation}/{column}": self.of_pairs[column](images, inputs) for column in wanted})
        return rows


@torch.inference_mode()
def encode_and_decode(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> tuple[Tensor, Tensor]:
    """Return latents [B, c, h, w] of uint8 images [B, 3, H, W], and reconstructions in [-1, 1], not clamped.

    Raises:
        OutputError: reconstructions of another shape or type, or with NaN or infinity.
    """
    height, width = images.shape[-2:]
    pixels = padded(autoencoder, to_network(images), padding)
    latents = autoencoder.encode(pixels)
    try:
        outputs = checked(autoencoder.decode(latents), tuple(pixels.shape))[..., :height, :width]
    except OutputError as error:
        raise OutputError(f"images were reconstructed as {error}") from error
    if not outputs.isfinite().all():
        raise OutputError("reconstructions hold NaN or infinity: did the autoencoder's training diverge?")
    return latents, outputs


def reconstruct_images(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """Return the reconstructions of ``encode_and_decode``; raises its errors."""
    return encode_and_decode(autoencoder, images, padding)[1]


def random_numbers(seed: int, start: int) -> AbstractContextManager[None]:
    """Seed torch for the images from ``start`` on, for autoencoders that sample their latents."""
    return seeded(seed, "reconstruct", start)


def measure(
    one_pass: OnePass,
    autoencoder: nn.Module,
    dataset: ImageDataset,
    start: int,
    count: int,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
    padding: str | None = None,
    probe: Probe | None = None,
) -> Table:
    """Return the table of images ``start`` ... ``start + count - 1`` of a dataset.

    The random numbers of autoencoders that sample their latents are a function of ``seed`` and ``start``. With a
    ``probe``, columns of ``latent_rows``, and the probe's, which have a row for every k-th image alone, from the first
    on.
    """
    rows: list[Table] = []
    chosen: list[Tensor] = []
    position = 0
    with random_numbers(seed, start):
        for inputs in batches(dataset, start + count, batch_size, workers, start):
            inputs = inputs.to(one_pass.device, non_blocking=True)
            latents, outputs = encode_and_decode(autoencoder, inputs, padding)
            rows.append(one_pass.compare(outputs, inputs))
            if probe:
                rows[-1] |= to_host(latent_rows(latents, start + position))
                chosen.append(inputs[-position % probe.step :: probe.step])
            position += len(inputs)
        if probe:
            images, numbers = torch.cat(chosen), probe.chosen(start, start + count)
            parts = [slice(k, k + batch_size) for k in range(0, len(images), batch_size)]
            return joined(rows) | joined([probe(images[part], numbers[part]) for part in parts])
    return joined(rows)


def joined(tables: list[Table]) -> Table:
    """Return the rows of several tables as one table."""
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}

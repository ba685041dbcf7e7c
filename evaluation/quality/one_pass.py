# SPDX-License-Identifier: Apache-2.0
"""One pass over a data set for any number of protocols: decode once, autoencode once, feed every network.

What a pass gives is a table: one row per image, columns of numbers and of feature vectors. Tables of parts of a data
set are the rows of the whole in another place, so shards, processes and restarts change no result: every statistic is
taken of the whole table, in the order of the images.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dcae.autoencoders.tiling import reconstruct
from dcae.benchmark.entries import NetworkWeights, Protocol
from dcae.data.dataset import ImageDataset
from dcae.randomness import seeded
from dcae.training.perceptual import perceptual_network
from evaluation.features.extractor import Extractor, feature_sets
from evaluation.features.inception import weights_identity
from evaluation.features.quantisation import to_network
from evaluation.features.reference import batches
from evaluation.metrics.psnr_ssim import psnr, ssim

Table = dict[str, Tensor]  # column: [N] float64, or features [N, d] float32

PIXEL_METRICS = ("psnr", "ssim", "lpips")


def columns(protocol: Protocol) -> dict[str, str]:
    """Where a protocol's numbers of each image stand in a table: psnr, ssim, lpips, and its feature sets by role.

    Protocols that compute a number in the same way have the same column.
    """
    weights = protocol.lpips
    trunk = f"{weights.network}:{f'random-{weights.seed}' if weights.random else weights.weights}"
    names = {"psnr": "psnr", "ssim": "ssim", "lpips": f"lpips:{trunk}"}
    names |= {role: each.name for role, each in feature_sets(protocol).items()}
    return {metric: f"{protocol.quantisation}/{name}" for metric, name in names.items()}


def table_identity(protocols: Iterable[Protocol]) -> dict[str, str]:
    """Each column of a pass, and what decides it besides images and autoencoder."""
    found = {}
    for protocol in protocols:
        names = columns(protocol)
        for role, each in feature_sets(protocol).items():
            found[names[role]] = each.fingerprint
        found[names["lpips"]] = weights_identity(protocol.lpips)
        found |= {names[metric]: "" for metric in ("psnr", "ssim")}
    return found


class OnePass:
    """Every number that some protocols ask for about pairs of images.

    Raises:
        WeightsError: a weight file is missing or is another one; before any image is read.
    """

    def __init__(self, protocols: Iterable[Protocol], device: str | torch.device = "cpu"):
        self.protocols = list(protocols)
        self.device = torch.device(device)
        self.extractor = Extractor(self.protocols, device)
        trunks = dict.fromkeys(protocol.lpips for protocol in self.protocols)
        self.lpips = {
            weights: perceptual_network(weights).to(device, memory_format=torch.channels_last) for weights in trunks
        }

    @torch.inference_mode()
    def compare(self, outputs: Tensor, inputs: Tensor) -> Table:
        """Rows about images in [-1, 1], float [B, 3, H, W], and the uint8 images that they should be."""
        rows: Table = {}
        for quantisation, images, alike, found in self.extractor.by_quantisation(outputs, self.protocols):
            found[f"{quantisation}/psnr"] = psnr(images, inputs).cpu()
            found[f"{quantisation}/ssim"] = ssim(images, inputs).cpu()
            for weights in dict.fromkeys(protocol.lpips for protocol in alike):
                found[self._lpips_column(alike, weights)] = self._lpips(weights, images, inputs)
            rows |= found
        return rows

    def _lpips_column(self, protocols: list[Protocol], weights: NetworkWeights) -> str:
        return next(columns(protocol)["lpips"] for protocol in protocols if protocol.lpips == weights)

    def _lpips(self, weights: NetworkWeights, images: Tensor, inputs: Tensor) -> Tensor:
        pair = (to_network(each).contiguous(memory_format=torch.channels_last) for each in (images, inputs))
        distances = self.lpips[weights](*pair)  # [B, 1, 1, 1]
        return distances.flatten().double().cpu()


@torch.inference_mode()
def reconstruct_images(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """uint8 images [B, 3, H, W] through an autoencoder, float in [-1, 1], not clamped.

    Raises:
        ValueError: another shape comes out, or values that are not finite.
    """
    outputs = reconstruct(autoencoder, to_network(images), padding)
    if outputs.shape != images.shape:
        raise ValueError(f"images {tuple(images.shape)} were reconstructed as {tuple(outputs.shape)}")
    if not outputs.isfinite().all():
        raise ValueError("reconstructions hold NaN or infinity: did the autoencoder's training diverge?")
    return outputs


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
) -> Table:
    """The table of images ``start`` … ``start + count - 1`` of a data set.

    The random numbers of autoencoders that sample their latents are a function of ``seed`` and ``start``.
    """
    rows: list[Table] = []
    with seeded(seed, "reconstruct", start):
        for inputs in batches(dataset, start + count, batch_size, workers, start):
            inputs = inputs.to(one_pass.device)
            rows.append(one_pass.compare(reconstruct_images(autoencoder, inputs, padding), inputs))
    return joined(rows)


def joined(tables: list[Table]) -> Table:
    """Tables one below the other."""
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}

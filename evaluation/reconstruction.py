# SPDX-License-Identifier: Apache-2.0
"""Reconstruction quality in one pass: rFID, PSNR, SSIM and LPIPS (Table 2 of the paper).

Inputs and reconstructions are compared as uint8, as the paper's code does. rFID compares the reconstructions with the
very images they were made from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dcae.autoencoders import reconstruct
from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from dcae.data import ImageDataset
from dcae.training import perceptual_network
from evaluation.features import InceptionFeatures
from evaluation.pixels import psnr, ssim, to_network, to_uint8
from evaluation.reference import batches, read_reference
from evaluation.samples import write_grid
from evaluation.statistics import (
    Moments,
    frechet_distance_of_features,
    jackknife_frechet,
    mean_and_standard_error,
)

UNITS = {"psnr": "dB", "ssim": "", "lpips": ""}


@dataclass(frozen=True)
class Reconstruction:
    """What was measured, the values of every image, and a few images to look at."""

    values: dict[str, Value]  # rfid, psnr, ssim, lpips
    per_image: dict[str, Tensor]  # psnr, ssim, lpips: float64 [N], in the order of the data set
    pairs: Tensor  # uint8 [K, 2, 3, R, R]: input and reconstruction


def evaluate_reconstruction(
    autoencoder: nn.Module,
    dataset: ImageDataset,
    protocol: Protocol,
    reference: Path,
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device = "cpu",
    shown: int = 8,
    seed: int = 0,
    padding: str | None = None,
) -> Reconstruction:
    """Measure an autoencoder on the first ``protocol.reconstruction_images`` images of a data set.

    Args:
        autoencoder: anything that keeps the contract of ``dcae.autoencoders``.
        dataset: its validation split at the resolution of the cell; if it has fewer images, all of them count.
        protocol: feature networks, their weights and the number of images.
        reference: features of the same images, from ``write_reference``.
        batch_size: changes values by float32 rounding only.
        workers: processes that load images.
        device: where everything runs.
        shown: how many pairs of images to return.
        seed: of autoencoders that sample their latents.
        padding: of images whose sides f does not divide (``dcae.autoencoders.reconstruct``).

    Raises:
        ReferenceError: the reference is missing or does not fit.
        ValueError: the autoencoder returns another shape, or values that are not finite.
    """
    real = read_reference(reference, dataset, protocol.reconstruction_images, protocol)
    inception = InceptionFeatures(protocol, device)
    lpips = perceptual_network(protocol.lpips).to(device)
    autoencoder = autoencoder.to(device).eval()
    features: list[Tensor] = []
    per_image: dict[str, list[Tensor]] = {name: [] for name in UNITS}
    pairs: list[Tensor] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for inputs in batches(dataset, protocol.reconstruction_images, batch_size, workers):
            inputs = inputs.to(device)
            outputs = reconstruct_pixels(autoencoder, inputs, padding)
            features.append(inception(outputs).cpu())
            for name, values in _compare(lpips, outputs, inputs).items():
                per_image[name].append(values.cpu())
            if sum(map(len, pairs)) < shown:
                pairs.append(torch.stack([inputs, outputs], dim=1)[:shown].cpu())
    table = {name: torch.cat(values) for name, values in per_image.items()}
    values = {"rfid": _rfid(torch.cat(features), real, protocol)}
    values |= {name: _mean(name, column, protocol) for name, column in table.items()}
    return Reconstruction(values, table, torch.cat(pairs)[:shown])


@torch.inference_mode()
def reconstruct_pixels(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """uint8 images [B, 3, H, W] through an autoencoder and back to uint8.

    Raises:
        ValueError: another shape comes out, or values that are not finite.
    """
    outputs = reconstruct(autoencoder, to_network(images), padding)
    if outputs.shape != images.shape:
        raise ValueError(f"images {tuple(images.shape)} were reconstructed as {tuple(outputs.shape)}")
    if not outputs.isfinite().all():
        raise ValueError("reconstructions hold NaN or infinity: did the autoencoder's training diverge?")
    return to_uint8(outputs)


@torch.inference_mode()
def _compare(lpips: nn.Module, outputs: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    distances = lpips(to_network(outputs), to_network(inputs))  # [B, 1, 1, 1]
    return {"psnr": psnr(outputs, inputs), "ssim": ssim(outputs, inputs), "lpips": distances.flatten().double()}


def _rfid(features: Tensor, real: Tensor | Moments, protocol: Protocol) -> Value:
    # Pairs are left out together, which takes the features of both.
    paired = isinstance(real, Tensor) and len(features) > 2
    return Value(
        value=frechet_distance_of_features(features, real),
        n=len(features),
        standard_error=jackknife_frechet(features, real, paired=True) if paired else None,
        random_features=protocol.inception.random,
    )


def _mean(name: str, values: Tensor, protocol: Protocol) -> Value:
    mean, error = mean_and_standard_error(values)
    random_features = name == "lpips" and protocol.lpips.random
    return Value(value=mean, n=len(values), standard_error=error, unit=UNITS[name], random_features=random_features)


def save_reconstruction_samples(result: Reconstruction, path: Path) -> None:
    """Write the pairs to look at as one PNG: inputs in the first row, their reconstructions below."""
    write_grid(result.pairs.transpose(0, 1).numpy(), path)


def write_rows(result: Reconstruction, path: Path) -> None:
    """Write the values of every image as parquet, columns ``image`` (index in the data set), psnr, ssim and lpips.

    Two autoencoders measured on the same images are compared by the differences of these rows, whose error is far
    smaller than that of either mean.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: values.numpy() for name, values in result.per_image.items()}
    table = pyarrow.table({"image": range(len(result.per_image["psnr"])), **columns})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pyarrow.parquet.write_table(table, temporary)
    os.replace(temporary, path)

# SPDX-License-Identifier: Apache-2.0
"""Latents, judged before a diffusion model is trained on them, from the pass that measures reconstructions.

Of all images:

- mean and standard deviation of each channel: a diffusion model sees latents scaled by one number, or by one per
  channel (Rombach et al. 2022, appendix G);
- effective rank of the channels: exp of the entropy of the normalised eigenvalues of their covariance (Roy and
  Vetterli 2007); c if all are used alike;
- share of high spatial frequencies, which diffusion models generate worst (Skorokhodov et al. 2025, "Improving the
  diffusability of autoencoders"): the power at half the Nyquist frequency and above, by a cosine transform, of all
  power but the mean's. White noise has three quarters or a little more.

Of every k-th image, at most every 19th, since they cost further encodings and decodings:

- equivariance error (Kouzelis et al. 2025, "EQ-VAE"): the mean square of E(flip x) - flip E(x), and of
  E(half of x) - half of E(x), over the variance of the latents. 0: latents move with the image; 2: they have nothing in
  common;
- PSNR and rFID of decoded latents with Gaussian noise of 0, 0.1, 0.2 and 0.5 times their standard deviation, as samples
  of a diffusion model are never exact (Zheng et al. 2025, "Diffusion transformers with representation autoencoders",
  train decoders so).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.autoencoders.contract import PerChannel, denormalise, normalise
from dcae.autoencoders.tiling import padded
from dcae.benchmark.record import Value
from dcae.randomness import numbered_generators
from evaluation.features.extractor import Extractor, FeatureSet
from evaluation.features.quantisation import to_network, to_uint8
from evaluation.metrics.jackknife import jackknife_frechet
from evaluation.metrics.psnr_ssim import psnr
from evaluation.metrics.registry import FID, IMAGE_METRICS, mean_value
from evaluation.quality.distances import Quality

NOISES = (0.1, 0.2, 0.5)  # standard deviations of the latents
FEWEST_CHOSEN = 10
STEPS = (1, 3, 7, 13, 19)  # primes, since the order of images often has a period, such as ten classes by turns
VECTORS = 4  # of an image, at most
SMALLEST_SPECTRUM = 4  # latent side: of two, every frequency but the mean is high
GROUPS = 16  # of jackknives
TIMES_CHANNELS = 2  # latent vectors below which a rank says nothing

OF_ALL = ("latent/vectors", "latent/power", "latent/high_power")
FLIP, SCALE = "latent/flip", "latent/scale"

Table = dict[str, Tensor]


def _psnr_at(noise: float) -> str:
    return f"noise {noise:g}/psnr"


def _features_at(noise: float) -> str:
    return f"noise {noise:g}/features"


def step_of(images: int) -> int:
    """Return k: every k-th image is encoded and decoded again."""
    return max(step for step in STEPS if step == 1 or step * FEWEST_CHOSEN <= images)


# --- rows of images -------------------------------------------------------------------------------------------------


def latent_rows(latents: Tensor, start: int) -> Table:
    """Return rows of the images ``start``, ``start + 1``, ...: some of their latent vectors, and powers of frequencies.

    Args:
        latents: [B, c, h, w].
        start: number of the first image in the dataset, which decides where the vectors are taken.
    """
    latents = latents.float()
    positions = latents.shape[-2] * latents.shape[-1]
    count = min(VECTORS, positions)
    # Multiples of a large prime: vectors of all places alike, whatever the batches.
    image = torch.arange(start, start + len(latents))[:, None]
    chosen = (image * count + torch.arange(count)) * 2654435761 % positions  # [B, count]
    vectors = latents.flatten(2).transpose(1, 2)  # [B, hw, c]
    vectors = vectors.gather(1, chosen.to(latents.device)[:, :, None].expand(-1, -1, vectors.shape[-1]))
    power, high = _powers(latents)
    return dict(zip(OF_ALL, (vectors, power, high), strict=True))


def _powers(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the power of each image's latents without their means, and that of high frequencies; float64 [B] each."""
    height, width = latents.shape[-2:]
    if min(height, width) < SMALLEST_SPECTRUM:
        return (latents.new_full((len(latents),), math.nan, dtype=torch.float64),) * 2
    rows, columns = (_cosines(side).to(latents.device) for side in (height, width))
    power = (rows @ latents @ columns.T).square().sum(1, dtype=torch.float64)  # [B, h, w]
    low = power[:, : -(-height // 2), : -(-width // 2)].sum((1, 2))
    mean, whole = power[:, 0, 0], power.sum((1, 2))
    return whole - mean, whole - low


def _cosines(side: int) -> Tensor:
    """Return the orthonormal cosine transform (DCT-II), [side, side]; row k has k / side of the Nyquist frequency."""
    index = torch.arange(side, dtype=torch.float64)
    basis = torch.cos(math.pi / side * torch.outer(index, index + 0.5)) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return basis.float()


@dataclass(frozen=True)
class Probe:
    """Encodes and decodes every k-th image again.

    Attributes:
        autoencoder: follows the contract, on the device of the images.
        extractor: has the network of these features.
        features: of rFID; without them it is left out.
        quantisation: of decoded images.
        step: k.
        latent_scale, latent_shift: of normalised latents, whose standard deviation is 1.
        seed: of the noise.
        padding: as of ``dcae.autoencoders.tiling.reconstruct``.
    """

    autoencoder: nn.Module
    extractor: Extractor
    features: FeatureSet | None
    quantisation: Literal["round", "truncate"]
    step: int
    latent_scale: PerChannel
    latent_shift: PerChannel
    seed: int = 0
    padding: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Columns of all images and of the chosen ones, each with its identity besides images and autoencoder."""
        noisy = {_psnr_at(noise): "" for noise in NOISES}
        if self.features:
            noisy |= {_features_at(noise): self.features.fingerprint for noise in NOISES}
        return dict.fromkeys((*OF_ALL, FLIP, SCALE), "") | noisy

    @property
    def steps(self) -> dict[str, int]:
        """k of each column that has rows of the chosen images alone."""
        return {name: self.step for name in self.columns if name not in OF_ALL}

    def chosen(self, start: int, stop: int) -> range:
        """Return the numbers of the chosen images of a shard."""
        return range(start, stop, self.step)

    @torch.inference_mode()
    def __call__(self, images: Tensor, numbers: Sequence[int]) -> Table:
        """Return a row for each image.

        Args:
            images: uint8 [B, 3, H, W], on the autoencoder's device.
            numbers: of the images in the dataset.
        """
        pixels = padded(self.autoencoder, to_network(images), self.padding)
        encode = self.autoencoder.encode
        latents = encode(pixels)
        rows = {FLIP: _distance(encode(pixels.flip(-1)), latents.flip(-1)), SCALE: self._scale_error(pixels, latents)}
        draws = [
            torch.randn(latents.shape[1:], generator=each)
            for each in numbered_generators(numbers, self.seed, "latent noise")
        ]
        unit = torch.stack(draws).to(latents)
        height, width = images.shape[-2:]
        for noise in NOISES:
            noisy = denormalise(self, normalise(self, latents) + noise * unit)
            decoded = to_uint8(self.autoencoder.decode(noisy)[..., :height, :width], self.quantisation)
            rows[_psnr_at(noise)] = psnr(decoded, images)
            if self.features:
                rows[_features_at(noise)] = self.extractor(decoded, [self.features.name])[self.features.name]
        return {column: values.cpu() for column, values in rows.items()}

    def _scale_error(self, pixels: Tensor, latents: Tensor) -> Tensor:
        f = pixels.shape[-1] // latents.shape[-1]
        if any(side % (2 * f) for side in pixels.shape[-2:]):
            return torch.full((len(pixels),), math.nan, dtype=torch.float64)
        return _distance(self.autoencoder.encode(F.avg_pool2d(pixels, 2)), F.avg_pool2d(latents, 2))


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over positions of the squared distance of latent vectors, float64 [B]."""
    return (a.double() - b.double()).square().sum(1).mean((1, 2))


# --- values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatentDiagnostics:
    """Values, those left out with the reason, and mean and standard deviation of each channel."""

    quality: Quality
    channels: dict[str, list[float]]


def diagnose(
    rows: Mapping[str, Tensor],
    clean: Mapping[str, Tensor],
    reference: Tensor | None,
    random_features: bool = False,
) -> LatentDiagnostics:
    """Return the diagnostics of an autoencoder's latents.

    Args:
        rows: of ``latent_rows``, [N], and of a ``Probe``, [n].
        clean: ``psnr`` [n] and, for rFID, ``features`` [n, d] of the chosen images' reconstructions.
        reference: features of the chosen originals [n, d]; ``None`` if they were not kept.
        random_features: whether the features come from random weights.
    """
    vectors = rows["latent/vectors"].double().flatten(0, 1)  # [N x vectors, c]
    images, channels = len(rows["latent/vectors"]), vectors.shape[1]
    mean, deviations = vectors.mean(0), vectors.std(0, correction=0)
    variance = deviations.square().sum()
    values = {"latent_std": Value(value=float(deviations.square().mean().sqrt()), n=images)}
    excluded: dict[str, str] = {}
    _add(values, excluded, "latent_channel_spread", _ratio(deviations.max(), deviations.min()), images,
         "a channel is constant")  # fmt: skip
    if len(vectors) < TIMES_CHANNELS * channels:
        excluded["latent_effective_rank"] = (
            f"needs at least {TIMES_CHANNELS * channels} latent vectors, there are {len(vectors)}"
        )
    else:
        _add(values, excluded, "latent_effective_rank", _effective_rank(vectors - mean), images, "latents are constant")
    of_mean = _share(rows["latent/high_power"], rows["latent/power"])
    too_small = f"needs latents of at least {SMALLEST_SPECTRUM} x {SMALLEST_SPECTRUM}, other than constant ones"
    _add(values, excluded, "latent_high_frequencies", of_mean, images, too_small)
    for name, column, reason in (
        ("latent_flip_error", FLIP, "latents are constant"),
        ("latent_scale_error", SCALE, "half an image's sides must be multiples of the spatial compression"),
    ):
        errors = rows[column] / variance
        of_mean = None if errors.isnan().any() or not variance else mean_value(errors)
        _add(values, excluded, name, of_mean, len(errors), reason)
    noisy = _of_noise(rows, clean, reference, random_features)
    quality = Quality(values | noisy.values, excluded | noisy.excluded)
    return LatentDiagnostics(quality, {"mean": mean.tolist(), "std": deviations.tolist()})


def _add(
    values: dict[str, Value],
    excluded: dict[str, str],
    name: str,
    found: Value | float | None,
    images: int,
    reason: str,
) -> None:
    if found is None:
        excluded[name] = reason
    else:
        values[name] = found if isinstance(found, Value) else Value(value=found, n=images)


def _ratio(a: Tensor, b: Tensor) -> float | None:
    return float(a / b) if b > 0 else None


def _effective_rank(centred: Tensor) -> float | None:
    """Return exp of the entropy of the covariance's eigenvalues, of vectors [N, c]."""
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    if not eigenvalues.sum():
        return None
    shares = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(shares).sum().exp())


def _share(parts: Tensor, wholes: Tensor) -> Value | None:
    """Return the ratio of two means over images, with its standard error to first order."""
    n, whole = len(wholes), wholes.mean()
    if wholes.isnan().any() or not whole > 0:
        return None
    ratio = parts.mean() / whole
    error = float((parts - ratio * wholes).std() / whole / math.sqrt(n)) if n > 1 else None
    return Value(value=float(ratio), n=n, standard_error=error)


def _of_noise(
    rows: Mapping[str, Tensor],
    clean: Mapping[str, Tensor],
    reference: Tensor | None,
    random_features: bool,
) -> Quality:
    """Return PSNR and rFID of decoded latents under each noise, and without any, of the same images."""
    unit = next(metric.unit for metric in IMAGE_METRICS if metric.name == "psnr")
    psnr_of = {0.0: clean["psnr"]} | {noise: rows[_psnr_at(noise)] for noise in NOISES}
    found = Quality()
    for noise, decibels in psnr_of.items():
        found.values[f"psnr_noise_{noise:g}"] = mean_value(decibels, unit)
    if "features" not in clean:
        return found
    features_of = {0.0: clean["features"]} | {noise: rows[_features_at(noise)] for noise in NOISES}
    for noise, features in features_of.items():
        name = f"rfid_noise_{noise:g}"
        if reference is None:
            found.excluded[name] = "the reference keeps features of some images alone"
        elif len(features) < FID.fewest:
            found.excluded[name] = f"needs at least {FID.fewest} images, there are {len(features)}"
        else:
            of = jackknife_frechet(features, reference, paired=True, groups=GROUPS)
            found.values[name] = Value(
                value=of.estimate, n=len(features), standard_error=of.standard_error, random_features=random_features
            )
    return found

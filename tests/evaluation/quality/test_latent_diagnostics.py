# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of latents: known values, other tools, and the same result from any shards and batches."""

import math

import pytest
import scipy.fft
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcae.benchmark import Config
from dcae.benchmark.entries import Protocol, ScenesEntry
from dcae.data.loading import open_dataset
from evaluation.features.reference import write_reference
from evaluation.metrics.registry import METRICS
from evaluation.quality import latent_diagnostics, reconstruction
from evaluation.quality.latent_diagnostics import NOISES, diagnose, latent_rows, step_of
from evaluation.quality.reconstruction import evaluate_reconstruction

IMAGES, SIDE = 60, 64


@pytest.fixture(scope="module")
def dataset():
    entry = ScenesEntry(name="scenes", kind="scenes", train_images=1, validation_images=IMAGES)
    return open_dataset(entry, "validation", SIDE)


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return Config().entry("protocols", "scene-features").model_copy(update={"reconstruction_images": IMAGES})


@pytest.fixture(scope="module")
def reference(dataset, protocol, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "reference.safetensors"
    write_reference(dataset, IMAGES, protocol, path)
    return path


class Grey(nn.Module):
    """Half-size grey means of the image, shrunk so that noise is never cut at black or white; counts its images."""

    spatial_compression, latent_channels, latent_scale, latent_shift = 2, 1, 4.0, 0.0

    def __init__(self):
        super().__init__()
        self.encoded = self.decoded = 0.0

    def encode(self, images: Tensor) -> Tensor:
        self.encoded += len(images) * images.shape[-1] ** 2 / SIDE**2
        return 0.1 * F.avg_pool2d(images, 2).mean(1, keepdim=True)

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded += len(latents)
        return F.interpolate(latents, scale_factor=2).expand(-1, 3, -1, -1)


class Addressed(Grey):
    """Latents that depend on the place alone, by a random map: mirrored ones have nothing in common with them."""

    latent_channels = 64

    def encode(self, images: Tensor) -> Tensor:
        side = images.shape[-1] // 2
        places = torch.randn(64, side, side, generator=torch.Generator().manual_seed(side))
        return places.expand(len(images), -1, -1, -1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.new_zeros(len(latents), 3, 2 * latents.shape[-2], 2 * latents.shape[-1])


@pytest.fixture
def measured(dataset, protocol, reference):
    def run(autoencoder: nn.Module | None = None, **options):
        options = {"latents": True, "shown": 0, **options}
        return evaluate_reconstruction(autoencoder or Grey(), dataset, protocol, reference, **options)

    return run


# --- known values ---------------------------------------------------------------------------------------------------


def diagnosed(latents: Tensor) -> dict[str, float]:
    """Return values of latents alone."""
    n = len(latents)
    chosen = {"latent/flip": torch.zeros(n), "latent/scale": torch.zeros(n)}
    for noise in NOISES:
        chosen |= {f"noise {noise:g}/psnr": torch.ones(n), f"noise {noise:g}/features": torch.zeros(n, 2)}
    clean = {"psnr": torch.ones(n), "features": torch.zeros(n, 2)}
    found = diagnose(latent_rows(latents, 0) | chosen, clean, None)
    return {name: value.value for name, value in found.quality.values.items()}


def test_rank_and_spread_of_known_channels():
    noise = torch.randn(4000, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    white = diagnosed(noise)
    assert white["latent_effective_rank"] == pytest.approx(8, rel=2e-3)  # 16,000 vectors
    assert white["latent_std"] == pytest.approx(1, rel=0.02)
    one = diagnosed(noise[:, :1].expand(-1, 8, -1, -1) * torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 3])[:, None, None])
    assert one["latent_effective_rank"] == pytest.approx(1, abs=1e-6)
    assert one["latent_channel_spread"] == pytest.approx(3)
    # Two channels of variances 3 and 1: the entropy of (3/4, 1/4).
    two = diagnosed(noise[:, :2] * torch.tensor([math.sqrt(3), 1.0])[:, None, None])
    assert two["latent_effective_rank"] == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), rel=0.01
    )


def test_the_spectrum_is_scipys_cosine_transform():
    latents = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(1)) + 5
    power = scipy.fft.dctn(latents.double().numpy(), axes=(2, 3), norm="ortho") ** 2
    whole = power.sum((1, 2, 3)) - power[:, :, 0, 0].sum(1)
    low = power[:, :, :3, :4].sum((1, 2, 3)) - power[:, :, 0, 0].sum(1)
    rows = latent_rows(latents, 0)
    torch.testing.assert_close(rows["latent/power"], torch.from_numpy(whole), rtol=1e-5, atol=0)  # float32
    torch.testing.assert_close(rows["latent/high_power"], torch.from_numpy(whole - low), rtol=1e-4, atol=0)


def test_high_frequencies_of_smooth_and_white_latents():
    white = torch.randn(500, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    # 192 of the 255 coefficients besides the mean.
    assert diagnosed(white)["latent_high_frequencies"] == pytest.approx(192 / 255, rel=0.01)
    smooth = torch.linspace(-1, 1, 16).expand(5, 1, 16, 16) + torch.arange(5.0)[:, None, None, None]
    assert diagnosed(smooth)["latent_high_frequencies"] < 0.01


def test_equivariance_of_means_and_of_addresses(measured):
    means = measured().values
    assert means["latent_flip_error"].value == pytest.approx(0, abs=1e-9)
    assert means["latent_scale_error"].value == pytest.approx(0, abs=1e-9)
    addresses = measured(Addressed()).values
    assert addresses["latent_flip_error"].value == pytest.approx(2, rel=0.05)
    # An average of four has a quarter of the variance.
    assert addresses["latent_scale_error"].value == pytest.approx(1.25, rel=0.05)


def test_noise_costs_as_much_as_its_variance(measured):
    values = measured().values
    for noise in NOISES:
        # The decoder copies each latent; 8-bit rounding adds 1/12. Means over images of decibels, so not exactly equal.
        step = (noise / Grey.latent_scale * 127.5) ** 2 + 1 / 12
        lost = 10 ** (-values["psnr_noise_0"].value / 10) * 255**2
        expected = -10 * math.log10((lost + step) / 255**2)
        assert values[f"psnr_noise_{noise:g}"].value == pytest.approx(expected, abs=0.15)


def test_without_noise_they_are_those_of_the_chosen_images(measured, monkeypatch):
    monkeypatch.setattr(reconstruction, "step_of", lambda images: 1)  # all of them
    values = measured().values
    assert values["rfid_noise_0"].value == pytest.approx(values["rfid"].value, abs=1e-9)
    assert values["psnr_noise_0"] == values["psnr"]


# --- from any shards, batches and processes -------------------------------------------------------------------------


def test_shards_batches_and_processes_change_nothing(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "step_of", lambda images: 7)
    whole = measured(shard_size=25)
    assert whole.values["psnr_noise_0.1"].n == 4 + 4 + 2  # of shards of 25, 25 and 10
    first = measured(shard_size=25, batch_size=4, state=tmp_path / "state", process=0, processes=2)
    second = measured(shard_size=25, batch_size=4, state=tmp_path / "state", process=1, processes=2)
    assert first is None
    for name, value in whole.values.items():
        assert second.values[name].value == pytest.approx(value.value, rel=1e-6), name
    assert second.channels["std"] == pytest.approx(whole.channels["std"], rel=1e-6)


def test_without_diagnostics_nothing_else_changes(measured):
    with_them, without = measured(), measured(latents=False)
    assert without.values == {name: with_them.values[name] for name in without.values}
    assert not any("latent" in name or "noise" in name for name in without.values)


def test_they_cost_less_than_a_fifth_of_the_pass(measured, monkeypatch):
    """Counted in images encoded, decoded, and seen by the feature network; LPIPS and loading make the pass longer."""
    monkeypatch.setattr(reconstruction, "step_of", lambda images: step_of(1000))
    without, with_them = Grey(), Grey()
    measured(without, latents=False)
    measured(with_them)
    chosen = -(-IMAGES // step_of(1000))
    extra = with_them.encoded - without.encoded + 2 * (with_them.decoded - without.decoded)
    assert extra == chosen * (2.25 + 2 * len(NOISES))
    assert step_of(1000) == step_of(50_000) == 19
    share = (2.25 + 2 * len(NOISES)) / 19 / 3
    assert share < 0.2
    assert -(-1000 // 19) * 19 < 1000 * 1.02


def test_the_chosen_images_do_not_follow_a_period():
    """Classes often come by turns."""
    for images in (150, 400, 1000, 50_000):
        assert {k % 10 for k in range(0, images, step_of(images))} == set(range(10))


def test_without_features_rfid_alone_is_left_out(measured):
    few = [metric for metric in METRICS if metric.name in ("psnr", "ssim")]
    values = measured(metrics=few).values
    assert "psnr_noise_0.2" in values and "latent_flip_error" in values
    assert not any("rfid" in name for name in values)


# --- what cannot be measured ----------------------------------------------------------------------------------------


class Tall(Grey):
    """One position for each image."""

    spatial_compression, latent_channels = SIDE, 3 * SIDE**2
    latent_scale = None  # then the latents of the first images give it

    def encode(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, SIDE)

    def decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(latents, SIDE)


def test_what_cannot_be_measured_is_left_out_with_the_reason(measured):
    found = measured(Tall())
    assert found.excluded["latent_effective_rank"] == "needs at least 24576 latent vectors, there are 60"
    assert "at least 4 x 4" in found.excluded["latent_high_frequencies"]
    assert "multiples of the spatial compression" in found.excluded["latent_scale_error"]
    assert found.values["latent_flip_error"].value > 0
    assert latent_diagnostics.step_of(1) == 1

# SPDX-License-Identifier: Apache-2.0
"""PSNR and SSIM against scikit-image and torchmetrics, and their known traps."""

import math

import numpy as np
import pytest
import skimage.data
import skimage.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import to_uint8
from evaluation.metrics.psnr_ssim import SSIM_SIGMA, SSIM_TAPS, _ssim_sum, psnr, ssim


def photographs() -> torch.Tensor:
    """Four crops with texture, edges and smooth parts, uint8 [4, 3, 96, 96]."""
    crops = [skimage.data.astronaut()[:96, 150:246], skimage.data.coffee()[100:196, 200:296]]
    crops += [skimage.data.chelsea()[50:146, 100:196], skimage.data.rocket()[100:196, 250:346]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def degraded(images: torch.Tensor) -> torch.Tensor:
    """The same with noise of a strength that grows from image to image."""
    strength = torch.tensor([2.0, 8.0, 20.0, 50.0]).view(4, 1, 1, 1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + strength * noise).clamp(0, 255).to(torch.uint8)


def test_psnr_is_that_of_scikit_image():
    images = photographs()
    pairs = zip(images.numpy(), degraded(images).numpy(), strict=True)
    expected = [skimage.metrics.peak_signal_noise_ratio(real, made, data_range=255) for real, made in pairs]
    torch.testing.assert_close(psnr(degraded(images), images), torch.tensor(expected, dtype=torch.float64))


def test_mean_of_psnr_is_not_the_psnr_of_pooled_errors():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    images, made = photographs(), degraded(photographs())
    pooled = peak_signal_noise_ratio(made.float(), images.float(), data_range=255.0)
    per_image = peak_signal_noise_ratio(made.float(), images.float(), data_range=255.0, dim=(1, 2, 3))
    assert float(psnr(made, images).mean()) == pytest.approx(float(per_image), abs=1e-4)  # float32
    assert psnr(made, images).mean() > pooled + 3  # noise of 2 to 50 of 255: the worst image decides the pool


def test_identical_images_have_infinite_psnr_and_others_do_not():
    images = photographs()
    values = psnr(torch.cat([images[:1], degraded(images)[1:]]), images)
    assert values[0] == math.inf
    assert values[1:].isfinite().all()


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_of_another_range_are_refused_and_not_measured(metric):
    """Of images in [-1, 1], PSNR against 255 was 72.9 dB where 30.8 is right."""
    images = photographs()
    for floats in (images / 127.5 - 1, images / 255):
        with pytest.raises(ValueError, match=r"expected uint8 images .* from 0 to 255, got torch.float32"):
            metric(floats, floats.flip(0))
        with pytest.raises(ValueError, match=r"to_uint8 converts images in \[-1, 1\]"):
            metric(images, floats)
    with pytest.raises(ValueError, match="differ in shape"):
        metric(images, images[:1])
    torch.testing.assert_close(metric(to_uint8(images / 127.5 - 1), degraded(images)), metric(images, degraded(images)))


def test_ssim_is_that_of_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    images, made = photographs(), degraded(photographs())
    expected = structural_similarity_index_measure(made, images, data_range=(0.0, 255.0), reduction="none")
    torch.testing.assert_close(
        ssim(made, images).float(), expected, atol=5e-5, rtol=0
    )  # float32 sums of squares up to 65,025


def test_ssim_is_close_to_scikit_image_with_wangs_window_but_not_with_its_defaults():
    images, made = photographs(), degraded(photographs())
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = [(real.numpy(), fake.numpy()) for real, fake in zip(images, made, strict=True)]

    def mean_of(**options) -> float:
        values = [skimage.metrics.structural_similarity(*pair, channel_axis=0, **options) for pair in pairs]
        return float(np.mean(values))

    ours = float(ssim(made, images).mean())
    # scikit-image leaves out a border of 5 pixels, which torchmetrics mirrors.
    assert ours == pytest.approx(mean_of(**wang), abs=0.01)
    assert abs(ours - mean_of()) > abs(ours - mean_of(**wang))  # uniform 7 x 7 window


def test_the_map_of_ssim_is_scikit_images_wherever_the_border_plays_no_part():
    images, made = photographs().double(), degraded(photographs()).double()
    border = SSIM_TAPS // 2
    for x, y in zip(images, made, strict=True):
        _, whole = skimage.metrics.structural_similarity(
            x.numpy(), y.numpy(), channel_axis=0, data_range=255, gaussian_weights=True, sigma=SSIM_SIGMA,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        expected = whole[:, border:-border, border:-border]
        # Images that are taken for mirrored ones: what is left is the map without the border.
        found = _ssim_sum(x, y, rows=16) / expected.size
        assert float(found) == pytest.approx(expected.mean(), abs=1e-9)


def test_ssim_refuses_images_that_are_too_small():
    with pytest.raises(ValueError, match="at least 6 pixels"):
        ssim(torch.zeros(1, 3, 5, 8, dtype=torch.uint8), torch.zeros(1, 3, 5, 8, dtype=torch.uint8))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), height=st.integers(6, 20), width=st.integers(6, 20))
def test_metrics_are_symmetric_and_perfect_for_equal_images(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(0, 256, (2, 2, 3, height, width), generator=generator, dtype=torch.uint8)
    torch.testing.assert_close(ssim(a, b), ssim(b, a), atol=1e-6, rtol=0)
    torch.testing.assert_close(psnr(a, b), psnr(b, a))
    assert (ssim(a, b) <= 1 + 1e-6).all()
    torch.testing.assert_close(ssim(a, a), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_range_of_ssim_counts():
    """The traps: a range of 1 or of [-1, 1] images with 8-bit values, and torchmetrics' range from the data."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    images, made = photographs() // 4 + 90, degraded(photographs()) // 4 + 90  # of little contrast
    ours = float(ssim(made, images).mean())
    for wrong in (1.0, 2.0, None):
        theirs = structural_similarity_index_measure(made.float(), images.float(), data_range=wrong)
        assert abs(float(theirs) - ours) > 0.02, wrong
    right = structural_similarity_index_measure(made / 255, images / 255, data_range=1.0)
    assert float(right) == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("strip", [1, 2**12, 2**30])
def test_ssim_does_not_depend_on_how_many_rows_are_taken_at_a_time(strip, monkeypatch):
    from torchmetrics.functional.image import structural_similarity_index_measure

    import evaluation.metrics.psnr_ssim

    images, made = photographs()[..., :70], degraded(photographs())[..., :70]
    monkeypatch.setattr(evaluation.metrics.psnr_ssim, "STRIP", strip)  # 16 rows, 58, all 96
    expected = structural_similarity_index_measure(made, images, data_range=(0.0, 255.0), reduction="none")
    torch.testing.assert_close(ssim(made, images).float(), expected, atol=5e-5, rtol=0)

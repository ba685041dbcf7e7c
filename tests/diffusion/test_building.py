# SPDX-License-Identifier: Apache-2.0
"""Networks have exactly the published sizes and the shapes that are asked for."""

import pytest
import torch

from dcae.benchmark.config import Config
from dcae.diffusion import build_denoiser

CONFIG = Config()


def build(name: str, latent_channels: int, latent_size: int, patch_size: int, classes: int):
    with torch.device("meta"):
        return build_denoiser(CONFIG.entry("diffusion", name), latent_channels, latent_size, patch_size, classes)


# fmt: off
SIZES = [
    # entry, latent channels and size, patch size, classes: image tokens, millions of parameters
    ("uvit-s",   16, 64, 2, 1000, 1024,   45.215),
    ("uvit-s",    4, 64, 2, 1000, 1024,   45.166),
    ("uvit-s",   16, 32, 2, 1000,  256,   44.822),
    ("uvit-s",   64, 16, 1, 1000,  256,   44.822),
    ("uvit-s",   32, 16, 1, 1000,  256,   44.789),
    ("uvit-s",  128,  8, 1, 1000,   64,   44.789),
    ("uvit-s",    4, 64, 8, 1000,   64,   44.920),
    ("uvit-s",   16, 32, 4, 1000,   64,   44.920),
    ("uvit-s",   64, 16, 2, 1000,   64,   44.920),
    ("uvit-m",   32, 16, 1, 1000,  256,  130.916),
    ("uvit-l",   32, 16, 1, 1000,  256,  286.796),
    ("uvit-h",    4, 64, 2, 1000, 1024,  501.717),
    ("uvit-h",   32, 16, 1, 1000,  256,  500.869),
    ("uvit-h",  128,  8, 1, 1000,   64,  500.869),
    ("uvit-2b",  32, 16, 1, 1000,  256, 1580.397),
    ("uvit-2b", 128,  8, 1, 1000,   64, 1580.397),
    ("dit-xl",    4, 64, 2, 1000, 1024,  674.835),
    ("dit-xl",   32, 16, 1, 1000,  256,  674.890),
    ("dit-xl",    4, 64, 4, 1000,  256,  675.001),
    ("dit-xl",   16, 32, 2, 1000,  256,  675.001),
    ("dit-xl",   64, 16, 1, 1000,  256,  675.001),
    ("dit-s",     4, 128, 2,   0, 4096,   32.481),
    ("dit-s",     4, 128, 2,  10, 4096,   32.485),
    ("dit-s",     4, 128, 4,   0, 1024,   32.536),
    ("dit-s",     4, 128, 4,  10, 1024,   32.540),
    ("dit-s",    32,  32, 1,   0, 1024,   32.499),
    ("dit-s",    32,  32, 1,  10, 1024,   32.503),
    ("dit-s",   128,  16, 1,   0,  256,   32.610),
    ("dit-s",   128,  16, 1,  10,  256,   32.614),
    ("dit-s",     4, 256, 4,   0, 4096,   32.536),
    ("dit-s",   128,  32, 1,   0, 1024,   32.610),
]
# fmt: on


@pytest.mark.parametrize(("name", "channels", "size", "patch_size", "classes", "tokens", "millions"), SIZES)
def test_parameters_and_tokens_are_the_published_ones(name, channels, size, patch_size, classes, tokens, millions):
    denoiser = build(name, channels, size, patch_size, classes)
    assert denoiser.tokens == tokens
    assert round(sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize(("name", "millions"), [("dit-s", 32.9), ("dit-b", 130.3), ("dit-l", 457.8), ("dit-xl", 674.8)])
def test_dit_sizes_at_256_pixels_are_the_published_ones(name, millions):
    denoiser = build(name, 4, 32, 2, 1000)
    assert round(sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6, 1) == millions


def test_the_final_convolution_is_the_entrys_option():
    entry = CONFIG.entry("diffusion", "uvit-s").model_copy(update={"final_convolution": True})
    with torch.device("meta"):
        with_convolution = build_denoiser(entry, 4, 32, 2, 1000)
    without = build("uvit-s", 4, 32, 2, 1000)
    extra = sum(p.numel() for p in with_convolution.parameters()) - sum(p.numel() for p in without.parameters())
    assert extra == 4 * 4 * 9 + 4


@pytest.mark.parametrize(("name", "ratio"), [("dit-demo", 2), ("uvit-demo", 1)])
@pytest.mark.parametrize(
    ("channels", "size", "patch_size"), [(4, 16, 2), (4, 16, 4), (32, 4, 1), (128, 2, 1), (3, 6, 3)]
)
@pytest.mark.parametrize("classes", [0, 5])
def test_any_latent_shape_and_patch_size(name, ratio, channels, size, patch_size, classes):
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), channels, size, patch_size, classes)
    labels = torch.tensor([0, classes])
    output = denoiser(torch.randn(2, channels, size, size), torch.tensor([1, 999]), labels)
    assert output.shape == (2, ratio * channels, size, size)
    assert denoiser.out_channels == ratio * channels
    assert (denoiser.null_label, denoiser.patch_size) == (classes, patch_size)


def test_a_patch_size_that_does_not_divide_the_latents_is_refused():
    with pytest.raises(ValueError, match=r"patch_size \(3\) must divide the latent size \(16 x 16\)"):
        build("uvit-s", 4, 16, 3, 1000)


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo"])
def test_labels_outside_the_classes_are_refused(name):
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, 5)
    for label in (-1, 6):
        with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 5, got " + str(label)):
            denoiser(torch.zeros(1, 4, 4, 4), torch.ones(1), torch.tensor([label]))


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo"])
def test_activation_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, 5)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    latents, timesteps, labels = torch.randn(2, 4, 4, 4), torch.tensor([3, 500]), torch.tensor([0, 5])
    gradients = []
    for denoiser.activation_checkpointing in (False, True):
        denoiser.zero_grad()
        denoiser(latents, timesteps, labels).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in denoiser.parameters()])
    assert all(torch.equal(plain, checkpointed) for plain, checkpointed in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", sorted(CONFIG.files("diffusion")))
def test_every_entry_fits_its_recipe(name):
    entry = CONFIG.entry("diffusion", name)
    recipe = CONFIG.entry("recipes", entry.recipe)
    assert recipe.kind == "diffusion"
    assert (entry.kind, entry.sampler, recipe.objective) in {
        ("dit", "ddpm", "epsilon-learned-range"),
        ("u-vit", "dpm-solver++", "epsilon"),
    }

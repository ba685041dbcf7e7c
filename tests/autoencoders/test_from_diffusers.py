# SPDX-License-Identifier: Apache-2.0
"""Autoencoders of the diffusers library, and what is not taken from it."""

from __future__ import annotations

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pixel_unshuffle

from dcae.autoencoders.contract import normalise
from dcae.autoencoders.from_diffusers import images_from_model, images_to_model, latents_from_model, latents_to_model
from dcae.autoencoders.loading import load, save
from dcae.autoencoders.space_to_channel import SpaceToChannel
from dcae.autoencoders.tiling import Tiled
from dcae.benchmark import Config, ConfigError
from dcae.benchmark.entries import Conventions, Pretrained, Tiling
from dcae.weights.catalogue import WeightsError
from tests.autoencoders.small import dc_ae, kl


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "total"),
    [
        ("sd-vae-f8", 34.16, 49.49, 83.65),
        ("sd-vae-f16", 28.27, 41.34, 69.61),
        ("sd-vae-f32", 42.61, 61.24, 103.88),
        ("sd-vae-f32c32", 58.03, 82.67, 140.70),
        ("sd-vae-f64c128", 70.72, 99.64, 170.43),
        ("sd-vae-f128c512", 86.06, 117.93, 205.30),
    ],
)
def test_parameter_counts_in_millions_as_printed(name, encoder, decoder, total):
    model = load(name, device="meta").model
    for part, expected in ((model.encoder, encoder), (model.decoder, decoder), (model, total)):
        assert round(sum(p.numel() for p in part.parameters()) / 1e6, 2) == expected


def test_mode_is_the_mean_and_sample_varies_with_the_posteriors_standard_deviation():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mode, sample = load(kl()), load(kl(posterior="sample"))
    posterior = mode.posterior(images)
    assert torch.equal(mode.encode(images), posterior.mean)
    torch.manual_seed(0)
    noise = (sample.encode(images) - posterior.mean) / posterior.std
    torch.manual_seed(0)
    torch.testing.assert_close(noise, torch.randn(posterior.mean.shape), rtol=1e-3, atol=1e-3)  # one subtraction
    assert posterior.kl().shape == (2,)


def test_saved_folder_opens_in_diffusers_and_here(tmp_path):
    autoencoder = load(kl(), seed=4)
    autoencoder.latent_scale, autoencoder.latent_shift = 0.7, 0.1
    save(autoencoder, tmp_path)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    again = load(kl(), weights=tmp_path)
    images = torch.rand(1, 3, 16, 16)
    assert theirs.config.scaling_factor == again.latent_scale == 0.7
    assert theirs.config.shift_factor == again.latent_shift == 0.1
    assert torch.equal(theirs.encode(images).latent_dist.mode(), autoencoder.encode(images))
    assert torch.equal(again(images), autoencoder(images))


def test_pretrained_folder_gives_weights_and_scale(tmp_path):
    theirs = diffusers.AutoencoderKL(**kl()["config"], scaling_factor=0.9)
    theirs.save_pretrained(tmp_path / "vae")
    entry = {**kl(), "pretrained": {"id": str(tmp_path), "subfolder": "vae"}}
    del entry["config"]
    autoencoder = load(entry)
    images = torch.rand(1, 3, 16, 16)
    assert autoencoder.latent_scale == 0.9
    with pytest.raises(WeightsError, match=r"scaling_factor is 0.9, but latent_scale of autoencoder unnamed is 0.5"):
        load({**entry, "latent_scale": 0.5})
    only_entry = {**entry, "latent_scale": 0.5, "conventions": {"latent_statistics": "entry"}}
    assert load(only_entry).latent_scale == 0.5
    assert torch.equal(autoencoder.encode(images), theirs.encode(images).latent_dist.mode())
    assert all(parameter.is_meta for parameter in load(entry, device="meta").parameters())


def test_flux_vae_with_its_shift_and_as_in_the_paper_without(tmp_path):
    """From a folder that diffusers saved, at tiny widths; scale and shift are those of the released config.json."""
    theirs = diffusers.AutoencoderKL(
        block_out_channels=[8] * 4, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=16, norm_num_groups=4, use_quant_conv=False, use_post_quant_conv=False,
        scaling_factor=0.3611, shift_factor=0.1159,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "vae")
    place = Pretrained(id=str(tmp_path), subfolder="vae")
    entries = {name: Config().entry("autoencoders", name) for name in ("flux-vae", "flux-vae-shift-ignored")}
    made = {name: load(entry.model_copy(update={"pretrained": place})) for name, entry in entries.items()}
    assert (made["flux-vae"].latent_scale, made["flux-vae"].latent_shift) == (0.3611, 0.1159)
    assert made["flux-vae"].latent_posterior == "moments"
    ignored = made["flux-vae-shift-ignored"]
    assert (ignored.latent_scale, ignored.latent_shift, ignored.latent_posterior) == (0.3611, 0, "sample")
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        mean, std = ignored.moments(images)
        posterior = theirs.encode(images).latent_dist
    assert torch.equal(mean, posterior.mean) and torch.equal(std, posterior.std)
    torch.testing.assert_close(normalise(made["flux-vae"], mean), (mean - 0.1159) * 0.3611)
    torch.testing.assert_close(normalise(ignored, mean), mean * 0.3611)


@pytest.mark.parametrize("entry", [{"factor": 2}, {"tile": 32, "overlap": 8}], ids=["space-to-channel", "tiling"])
def test_moments_go_through_what_stands_around_an_autoencoder(entry):
    autoencoder, images = load(kl(posterior="moments")), torch.rand(1, 3, 32, 32) * 2 - 1
    _, std = autoencoder.moments(images)
    if "factor" in entry:
        around, expected = SpaceToChannel(autoencoder, **entry), pixel_unshuffle(std, 2)
    else:
        around, expected = Tiled(autoencoder, Tiling(**entry)), std
    assert around.latent_posterior == "moments"
    assert torch.equal(around.moments(images)[1], expected)
    assert torch.equal(around.moments(images)[0], around.encode(images))


def test_a_posterior_needs_a_variational_dc_ae():
    with pytest.raises(ConfigError, match="posterior is moments, but without variational: true there is none"):
        load(dc_ae(posterior="moments"))
    assert load(dc_ae(posterior="moments", variational=True)).latent_posterior == "moments"


def test_pretrained_pickles_are_refused(tmp_path):
    diffusers.AutoencoderKL(**kl()["config"]).save_pretrained(tmp_path, safe_serialization=False)
    entry = {**kl(), "pretrained": {"id": str(tmp_path)}}
    del entry["config"]
    with pytest.raises(WeightsError, match="safetensors"):
        load(entry)


@pytest.mark.parametrize("name", ["AutoencoderDC", "AutoencoderTiny", "VQModel"])
def test_classes_without_a_posterior(name, tmp_path):
    made = load(dc_ae())
    save(made, tmp_path)
    config = {
        "AutoencoderDC": {k: v for k, v in diffusers.AutoencoderDC.load_config(tmp_path).items() if k[0] != "_"},
        "AutoencoderTiny": {"encoder_block_out_channels": [8] * 4, "decoder_block_out_channels": [8] * 4},
        "VQModel": {"block_out_channels": [8], "norm_num_groups": 4, "latent_channels": 3},
    }[name]
    f, c = {"AutoencoderDC": (8, 8), "AutoencoderTiny": (8, 4), "VQModel": (1, 3)}[name]
    entry = {"kind": "diffusers", "class": name, "spatial_compression": f, "latent_channels": c, "config": config}
    autoencoder = load(entry)
    assert autoencoder(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    with pytest.raises(TypeError, match="posterior"):
        autoencoder.posterior(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["UNet2DModel", "DDIMScheduler", "utils", "Nonsense"])
def test_only_diffusers_autoencoders_are_taken(name):
    with pytest.raises(ConfigError, match=r"no autoencoder .* it has .*AutoencoderKL"):
        load({**kl(), "class": name})


def test_wrong_argument_is_named():
    with pytest.raises(
        ConfigError, match=r"latent_chanels.*no such argument of AutoencoderKL; allowed: .*latent_channels"
    ):
        load({**kl(), "config": {"latent_chanels": 4}})


def test_entry_and_class_must_agree():
    with pytest.raises(ConfigError, match=r"encode returns \(1, 4, 16, 16\), expected \(1, 4, 8, 8\)"):
        load({**kl(), "spatial_compression": 8})


def test_residual_blocks_and_attention_begin_as_the_identity_if_the_entry_says_so():
    torch.manual_seed(0)
    for entry, same in ((kl(), False), (kl(zero_init_residual=True), True)):
        middle = load(entry).model.encoder.mid_block
        for block in (middle.resnets[0], middle.attentions[0]):
            arguments = (None,) if block is middle.resnets[0] else ()  # of the time embedding
            x = torch.randn(1, middle.resnets[0].in_channels, 4, 4)
            assert torch.equal(block(x, *arguments), x) is same


def test_he_normal_weights_depend_on_the_seed_alone_and_keep_the_signal():
    library, scaled = load(kl()), load(kl(initialisation="he-normal"), seed=2)
    again = load(kl(initialisation="he-normal"), seed=2)
    assert torch.equal(scaled.model.encoder.conv_in.weight, again.model.encoder.conv_in.weight)
    images = torch.rand(8, 1, 1, 1).expand(8, 3, 32, 32) * 2 - 1

    def spread(autoencoder):  # over images, relative to the mean: how much of the latents says which image it is
        latents = autoencoder.encode(images)
        return (latents.std(dim=0).mean() / latents.abs().mean()).item()

    assert spread(scaled) > 2 * spread(library)


RANGES = st.tuples(st.floats(-300, 300), st.floats(0.1, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))
CONVENTIONS = st.builds(Conventions, image_range=RANGES, video=st.booleans(), latent_patch_size=st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(conventions=CONVENTIONS, seed=st.integers(0, 100))
def test_images_and_latents_come_back(conventions, seed):
    images = torch.rand(2, 3, 12, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    there = images_to_model(images, conventions)
    low, high = conventions.image_range
    rounding = 1e-9 * max(abs(low), abs(high))
    assert low - rounding <= there.min() and there.max() <= high + rounding
    assert there.shape == ((2, 3, 1, 12, 24) if conventions.video else images.shape)
    torch.testing.assert_close(images_from_model(there, conventions), images)
    ours = torch.rand(2, 5 * conventions.latent_patch_size**2, 3, 6)
    theirs = latents_to_model(ours, conventions)
    assert theirs.shape[1] == 5 and theirs.dim() == (5 if conventions.video else 4)
    assert torch.equal(latents_from_model(theirs, conventions), ours)


def test_without_conventions_nothing_is_computed():
    images = torch.rand(1, 3, 8, 8)
    assert images_to_model(images, Conventions()) is images and images_from_model(images, Conventions()) is images


@pytest.mark.parametrize(("value", "expected"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_the_range_from_0_to_1(value, expected):
    conventions = Conventions(image_range=(0, 1))
    assert images_to_model(torch.full((1, 3, 2, 2), value), conventions).unique().tolist() == [expected]


def test_squares_become_channels_in_the_order_of_flux2():
    latents = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    ours = latents_from_model(latents, Conventions(latent_patch_size=2))
    assert torch.equal(ours, diffusers.Flux2Pipeline._patchify_latents(latents))

# SPDX-License-Identifier: Apache-2.0
"""Every entry of released weights of a diffusers class, from a folder that diffusers saved with a tiny model."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from dcae.autoencoders.contract import denormalise, normalise
from dcae.autoencoders.loading import load
from dcae.autoencoders.tiling import reconstruct
from dcae.benchmark import Config
from dcae.benchmark.entries import Conventions, Pretrained
from dcae.files import sha256
from dcae.weights.catalogue import WeightsError
from tests.autoencoders.released_families import CONFIGS, saved

WEIGHTS = "diffusion_pytorch_model.safetensors"
PER_CLASS = (
    "sd-vae-ft-ema", "sd3-vae", "flux2-vae", "asymmetric-vqgan-x-2", "hunyuan-image-f32", "wan-2.1-vae",
    "qwen-image-vae", "taesd3", "rae-dinov2-b",
)  # fmt: skip


def images(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def called_directly(model, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (mode of the posterior) and images as the class itself gives them, written out for each class."""
    name = type(model).__name__
    if name == "AutoencoderRAE":
        latents = model.encode((images + 1) / 2).latent
        return latents, model.decode(latents).sample * 2 - 1
    if name == "AutoencoderTiny":
        latents = model.encode(images).latents
        return latents, model.decode(latents).sample
    if name in ("AutoencoderKLWan", "AutoencoderKLQwenImage"):
        latents = model.encode(images[:, :, None]).latent_dist.mode()
        return latents[:, :, 0], model.decode(latents).sample[:, :, 0]
    latents = model.encode(images).latent_dist.mode()
    return latents, model.decode(latents).sample


def released_entries() -> set[str]:
    config = Config()
    entries = (config.entry("autoencoders", name) for name in config.files("autoencoders"))
    return {entry.name for entry in entries if entry.kind == "diffusers" and entry.pretrained}


def test_every_released_entry_of_a_diffusers_class_is_tested_here():
    of_other_entries = {"flux-vae-shift-ignored", "sd-vae-ft-ema-sampled", "sd-vae-ft-ema-moments"}
    in_test_ldm = {name for name in released_entries() if name.startswith("ldm-kl-")}
    assert set(CONFIGS) == released_entries() - of_other_entries - in_test_ldm


@pytest.mark.parametrize("name", PER_CLASS)
@torch.no_grad()
def test_round_trip_equals_direct_calls_of_the_class(name, tmp_path):
    model, entry = saved(name, tmp_path)
    autoencoder = load(entry)
    f, c = entry.spatial_compression, entry.latent_channels
    latents, decoded = called_directly(model, images())
    ours = autoencoder.encode(images())
    assert ours.shape == (2, c, 64 // f, 64 // f)
    if name == "flux2-vae":
        latents = diffusers.Flux2Pipeline._patchify_latents(latents)
    assert torch.equal(ours, latents)
    result = reconstruct(autoencoder, images())
    # The range of RAE is changed by two affine maps, here and in the direct call in another order of operations.
    torch.testing.assert_close(result, decoded, rtol=0, atol=1e-5 if name == "rae-dinov2-b" else 0)
    assert autoencoder.released_file.name == WEIGHTS


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(PER_CLASS)))
@torch.no_grad()
def test_other_entries_load_and_keep_the_contract(name, tmp_path):
    _, entry = saved(name, tmp_path)
    autoencoder = load(entry)  # checks shapes
    assert reconstruct(autoencoder, images()[:1]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", PER_CLASS)
def test_tiling_and_slicing_are_off_and_weights_are_in_float32(name, tmp_path):
    model, entry = saved(name, tmp_path)
    folder = tmp_path / (entry.pretrained.subfolder or "")
    model.to(torch.bfloat16).save_pretrained(folder)
    loaded = load(entry).model
    assert not getattr(loaded, "use_tiling", False) and not getattr(loaded, "use_slicing", False)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", PER_CLASS)
@torch.no_grad()
def test_normalised_latents_are_those_of_the_pipelines(name, tmp_path):
    model, entry = saved(name, tmp_path)
    autoencoder = load(entry)
    latents = autoencoder.encode(images())
    ours = normalise(autoencoder, latents)
    if name == "flux2-vae":
        expected = torch.nn.functional.batch_norm(
            latents, model.bn.running_mean, model.bn.running_var, eps=model.config.batch_norm_eps
        )
    elif name in ("wan-2.1-vae", "qwen-image-vae"):
        mean, std = (torch.tensor(model.config[field]).view(1, -1, 1, 1) for field in ("latents_mean", "latents_std"))
        expected = (latents - mean) / std
    else:
        scale, shift = model.config.scaling_factor, getattr(model.config, "shift_factor", None) or 0
        expected = (latents - shift) * scale
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(denormalise(autoencoder, ours), latents, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["va-vae-f16d32", "repa-e-qwen-image-vae", "eq-vae"])
def test_where_no_scale_is_known_a_default_of_the_class_is_not_taken_for_one(name, tmp_path):
    _, entry = saved(name, tmp_path)
    autoencoder = load(entry)
    assert autoencoder.latent_scale is None
    with pytest.raises(ValueError, match="latent_scale is unknown"):
        normalise(autoencoder, torch.zeros(1, entry.latent_channels, 2, 2))


def test_a_scale_that_stands_in_the_class_alone_is_no_mismatch(tmp_path):
    """The config.json of sd-vae-ft-mse has no scaling_factor; the default of today's class would be read from it."""
    _, entry = saved("sd-vae-ft-mse", tmp_path, latent_scale=0.5)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["scaling_factor"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load(entry).latent_scale == 0.5


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("sdxl-vae", {"scaling_factor": 0.2}, r"scaling_factor is 0.2, but latent_scale of .*sdxl-vae is 0.13"),
        ("sd3-vae", {"shift_factor": 0.1}, r"shift_factor is 0.1, but latent_shift of autoencoder sd3-vae is 0.0609"),
        ("sdxl-vae", {"shift_factor": 0.1}, r"shift_factor is 0.1, but latent_shift of autoencoder sdxl-vae is 0.0"),
        ("wan-2.1-vae", {"latents_mean": [0.0] * 16}, r"latents_mean is \[0.0, .*but latent_shift .* is \[-0.7571"),
        ("qwen-image-vae", {"latents_std": [1.0] * 16}, r"latents_std is \[1.0, .*but latent_std .* is \[2.8184"),
        ("taesd", {"scaling_factor": 0.18215}, r"scaling_factor is 0.18215, but latent_scale .* is 1.0"),
        ("sdxl-vae", {"_class_name": "AutoencoderTiny"}, r"_class_name is 'AutoencoderTiny', but .*'AutoencoderKL'"),
        ("sdxl-vae", {"latent_channels": 16}, r"does not fit AutoencoderKL .*: mismatched keys: .*decoder.conv_in"),
        ("sdxl-vae", {"layers_per_block": 2}, r"does not fit AutoencoderKL .*: missing keys: decoder"),
        ("sdxl-vae", {"use_quant_conv": False}, r"does not fit AutoencoderKL .*: unexpected keys: quant_conv"),
    ],
)  # fmt: skip
def test_a_release_that_is_not_the_entrys_is_refused(name, changed, message, tmp_path):
    _, entry = saved(name, tmp_path)
    path = tmp_path / (entry.pretrained.subfolder or "") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(WeightsError, match=message):
        load(entry)


def test_a_batch_norm_of_other_channels_is_refused(tmp_path):
    _, entry = saved("flux2-vae", tmp_path, latent_channels=32, spatial_compression=8,
                     conventions=Conventions(latent_statistics="batch-norm"))  # fmt: skip
    with pytest.raises(WeightsError, match=r"AutoencoderKLFlux2 has bn: BatchNorm2d\(128.*expected one of 32 channels"):
        load(entry)


def test_without_weights_only_the_architecture_is_read(tmp_path):
    _, entry = saved("qwen-image-vae", tmp_path)
    (tmp_path / "vae" / WEIGHTS).unlink()
    assert all(parameter.is_meta for parameter in load(entry, device="meta").parameters())
    with pytest.raises(WeightsError, match=r"autoencoder qwen-image-vae: no safetensors in .*vae"):
        load(entry)


def test_pickles_other_names_damage_and_other_content_are_refused(tmp_path):
    model, entry = saved("sd-vae-ft-ema", tmp_path)
    pinned = entry.model_copy(update={"pretrained": Pretrained(id=str(tmp_path), sha256=sha256(tmp_path / WEIGHTS))})
    load(pinned)
    content = (tmp_path / WEIGHTS).read_bytes()
    save_file({**load_file(tmp_path / WEIGHTS), "decoder.conv_in.bias": torch.ones(8)}, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match=r"has sha256 .* autoencoder sd-vae-ft-ema expects"):
        load(pinned)
    (tmp_path / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="not a safetensors file, or cut short"):
        load(entry)
    (tmp_path / WEIGHTS).rename(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=f"diffusers reads {WEIGHTS}"):
        load(entry)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(WeightsError, match=r"is a pickle, which can run any code when it is opened; only safetensors"):
        load(entry)


def test_an_id_is_found_under_weights_dir_and_if_not_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    catalogue = tmp_path / "config" / "weights.yaml"
    catalogue.parent.mkdir()
    catalogue.write_text(f"weights_dir: {tmp_path}\nfiles: {{}}\n")
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(catalogue))
    entry = Config().entry("autoencoders", "sd3.5-vae")
    with pytest.raises(WeightsError) as caught:
        load(entry)
    identity = "stabilityai/stable-diffusion-3.5-medium"
    for part in (
        "autoencoder sd3.5-vae", f"the weights of {identity}", "no network", "accept a licence",
        f"hf download {identity} --revision {entry.pretrained.revision} --include 'vae/*' "
        f"--local-dir {tmp_path / identity}",
    ):  # fmt: skip
        assert part in str(caught.value)
    saved("sd3.5-vae", tmp_path / identity)
    assert load(entry).latent_scale == 1.5305


@torch.no_grad()
def test_images_of_another_size_than_a_model_takes_are_refused(tmp_path):
    _, entry = saved("rae-dinov2-b", tmp_path, resolutions=[32])
    with pytest.raises(ValueError, match=r"encode returns \(1, 768, 4, 4\), expected \(1, 768, 2, 2\)"):
        load(entry)


@pytest.mark.parametrize("below", ["sd-vae-ft-ema", "sdxl-vae"])
def test_space_to_channel_entries_rest_on_entries_that_are_there(below):
    config = Config()
    for f, c, factor in ((32, 64, 4), (64, 256, 8)):
        entry = config.entry("autoencoders", f"{below}-f{f}c{c}")
        lower = config.entry("autoencoders", entry.autoencoder)
        assert (lower.spatial_compression * factor, lower.latent_channels * factor**2) == (f, c)
        assert entry.latent_channels / entry.spatial_compression**2 == lower.latent_channels / 8**2  # equal size

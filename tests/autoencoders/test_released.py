# SPDX-License-Identifier: Apache-2.0
"""The released DC-AEs: entries, parity with diffusers both ways, and where their weights are found."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from diffusers import AutoencoderDC
from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from dcae.autoencoders.dc_ae_config import config_of
from dcae.autoencoders.loading import load, save
from dcae.autoencoders.released import from_original, is_original, original_names, original_shapes
from dcae.benchmark import Config, ConfigError
from dcae.files import sha256
from dcae.weights.catalogue import WeightsError
from tests.autoencoders.small import dc_ae, to_original

RELEASED = {  # parameters of encoder and decoder, and the latent scale
    "dc-ae-f32c32-in-1.0": (123_172_384, 200_184_076, 0.3189),
    "dc-ae-f32c32-mix-1.0": (123_172_384, 200_184_076, 0.4552),
    "dc-ae-f64c128-in-1.0": (264_550_528, 412_345_612, 0.2889),
    "dc-ae-f64c128-mix-1.0": (264_550_528, 412_345_612, 0.4538),
    "dc-ae-f128c512-in-1.0": (415_661_056, 705_021_196, 0.4883),
    "dc-ae-f128c512-mix-1.0": (415_661_056, 705_021_196, 0.3620),
    "dc-ae-f32c32-sana-1.0": (153_027_104, 159_223_171, 0.41407),
    "dc-ae-f32c32-sana-1.1": (153_027_104, 159_223_171, 0.41407),
    "dc-ae-lite-f32c32": (153_027_104, 268_154_124, 0.41407),
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def images(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(width)) * 2 - 1


# --- entries ---


@pytest.mark.parametrize("name", RELEASED)
def test_parameters_and_scale_are_those_of_the_released_model(name):
    autoencoder = load(name, device="meta")
    counts = [sum(p.numel() for p in half.parameters()) for half in (autoencoder.encoder, autoencoder.decoder)]
    assert (*counts, autoencoder.latent_scale) == RELEASED[name]
    assert autoencoder.entry.licence == "Apache-2.0"


SAME_ARCHITECTURE = {
    "dc-ae-f32c32-in-1.0": ["dc-ae-f32c32", "dc-ae-f32c32-mix-1.0"],
    "dc-ae-f64c128-in-1.0": ["dc-ae-f64c128", "dc-ae-f64c128-mix-1.0"],
    "dc-ae-f128c512-in-1.0": ["dc-ae-f128c512", "dc-ae-f128c512-mix-1.0"],
    "dc-ae-f32c32-sana-1.0": ["dc-ae-f32c32-sana-1.1"],
    "dc-ae-lite-f32c32": [],
}


@pytest.mark.parametrize("name", SAME_ARCHITECTURE)
def test_entries_of_one_architecture_describe_the_same(name):
    others = [Config().entry("autoencoders", other) for other in SAME_ARCHITECTURE[name]]
    expected = config_of(Config().entry("autoencoders", name))
    assert [config_of(other) for other in others] == [expected] * len(others)
    assert {name, *SAME_ARCHITECTURE[name]} & set(RELEASED)


# --- parity with diffusers ---

FULL_SIZE = os.environ.get("DCAE_TEST_FULL_SIZE") == "1"


def narrow(name, by):
    """A released entry with widths and latents divided, and heads of 8 channels: every stage and depth stays.

    Narrower heads would make the comparison a matter of luck: the attention of a token jumps where rounding turns its
    last positive query negative, and of two or four queries that happens in one of some thousand tokens.
    """
    fields = Config().entry("autoencoders", name).model_dump(exclude={"name", "pretrained"})
    if by == 1:
        return fields
    fields["stages"]["widths"] = [width // by for width in fields["stages"]["widths"]]
    return {**fields, "head_dim": 8, "latent_channels": fields["latent_channels"] // by}


def fill(module):
    """Weights as after a training: no norm is the identity, and no statistics are those of a unit normal."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        with torch.no_grad():
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean") or (tensor.dim() == 1 and name.endswith("bias")):
                tensor.normal_(0, 0.2, generator=generator)
            elif tensor.dim() > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return module


def difference(ours, theirs):
    """Largest difference, as a share of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def assert_equal_outputs(ours, theirs):
    """In two resolutions: attention is quadratic in the pixels of the innermost map in one, linear in the other.

    It is quadratic in as many pixels as a head has channels, or fewer: 1 x 2 of 8, and 3 x 3 are more; at full size
    1 x 2 of 32, and 6 x 6 are more.
    """
    f = ours.spatial_compression
    for height, width in ((1, 2), (3, 3) if ours.entry.head_dim == 8 else (6, 6)):
        pixels = images(height * f, width * f)
        latents = ours.encode(pixels)
        # fp32 sums in another order differ by about 1e-6 after some fifty layers; another operation by far more.
        assert difference(latents, theirs.encode(pixels).latent) < 1e-4
        assert difference(ours.decode(latents), theirs.decode(latents).sample) < 1e-4


@pytest.mark.parametrize("name", SAME_ARCHITECTURE)
@pytest.mark.parametrize(
    "by",
    [
        16,
        pytest.param(
            1, marks=pytest.mark.skipif(not FULL_SIZE, reason="full size takes minutes: set DCAE_TEST_FULL_SIZE=1")
        ),
    ],
)
def test_parity_with_diffusers_both_ways(name, by, tmp_path):
    entry = narrow(name, by)
    ours = fill(load(entry))
    save(ours, tmp_path / "ours")
    theirs = AutoencoderDC.from_pretrained(tmp_path / "ours").eval()
    assert theirs.config.scaling_factor == entry["latent_scale"]
    assert_equal_outputs(ours, theirs)

    fill(theirs).save_pretrained(tmp_path / "theirs")
    entry["pretrained"] = {"id": str(tmp_path / "theirs")}
    again = load(entry)
    assert again.latent_scale == entry["latent_scale"]
    assert_equal_outputs(again, theirs)


# --- where weights are found ---

SCALE = 0.25


@pytest.fixture
def released(tmp_path):
    """A small DC-AE, and the folders and files in which its weights may come."""
    autoencoder = fill(load(dc_ae(latent_scale=SCALE)))
    save(autoencoder, tmp_path / "diffusers")
    (tmp_path / "original").mkdir()
    save_file(to_original(autoencoder), tmp_path / "original" / "model.safetensors")
    (tmp_path / "original" / "config.json").write_text('{"model_name": "dc-ae-f8c8-in-1.0"}')
    shutil.copy(tmp_path / "original" / "model.safetensors", tmp_path / "original.safetensors")
    shutil.copy(tmp_path / "diffusers" / WEIGHTS, tmp_path / "diffusers.safetensors")
    return autoencoder


def entry(place, **pretrained):
    return dc_ae(latent_scale=SCALE, pretrained={"id": str(place), **pretrained})


@pytest.mark.parametrize("name", ["diffusers", "original", "diffusers.safetensors", "original.safetensors"])
def test_both_layouts_from_a_folder_or_a_file(released, tmp_path, name):
    again = load(entry(tmp_path / name))
    assert again.latent_scale == SCALE
    assert not again.training
    assert torch.equal(again(images(32, 64)), released(images(32, 64)))


def test_from_the_hub_with_revision_and_subfolder(released, tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, revision, allow_patterns):
        asked.update(name=name, revision=revision, allow_patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    again = load(entry("owner/name", revision="4f1c", subfolder="original"))
    assert torch.equal(again(images(32, 64)), released(images(32, 64)))
    assert asked["name"] == "owner/name" and asked["revision"] == "4f1c"
    assert asked["allow_patterns"] == [f"original/{name}" for name in ("config.json", WEIGHTS, "model.safetensors")]
    load(entry("owner/name", subfolder="diffusers", file=WEIGHTS))
    assert asked["allow_patterns"] == ["diffusers/config.json", f"diffusers/{WEIGHTS}"]


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def no_network(*_, **__):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(WeightsError) as caught:
        load(entry("owner/name", revision="4f1c"))
    for part in (
        "autoencoder unnamed",
        "of owner/name",
        "no network",
        "hf download owner/name --revision 4f1c --local-dir",
    ):
        assert part in str(caught.value)
    assert all(weight.is_meta for weight in load(entry("owner/name"), device="meta").parameters())  # needs no weights


def test_what_is_no_hub_id_is_named():
    with pytest.raises(
        WeightsError, match=r"the weights of no/such/folder are neither in .*weights/no/such/folder nor"
    ):
        load(entry("no/such/folder"))
    with pytest.raises(WeightsError, match=r"no/such.safetensors: no such file"):
        load(entry("no/such.safetensors"))


def test_sha256_is_verified_before_the_file_is_opened(released, tmp_path):
    path = tmp_path / "original.safetensors"
    digest = sha256(path)
    load(entry(path, sha256=digest))
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=f"{path} has sha256 {sha256(path)}, autoencoder unnamed expects {digest}"):
        load(entry(path, sha256=digest))
    with pytest.raises(ConfigError, match=r"pretrained.sha256"):
        load(entry(path, sha256="main"))
    kl = {"kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 8, "latent_channels": 4}
    with pytest.raises(ConfigError, match=r"pretrained.file is for entries of kind dc-ae"):
        load({**kl, "pretrained": {"id": "owner/name", "file": "model.safetensors"}})


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.ckpt"])
def test_pickles_are_refused_with_the_reason(tmp_path, name):
    path = tmp_path / name
    torch.save(load(dc_ae()).state_dict(), path)
    for pretrained in ({"id": str(tmp_path)}, {"id": str(path)}, {"id": str(tmp_path), "file": name}):
        with pytest.raises(WeightsError, match=rf"{name} is a pickle, which can run any code .* Convert it"):
            load(dc_ae(latent_scale=SCALE, pretrained=pretrained))


def test_which_of_several_files_is_asked_for(released, tmp_path):
    with pytest.raises(WeightsError, match=r"holds diffusers.safetensors, original.safetensors; name one of them"):
        load(entry(tmp_path))
    again = load(entry(tmp_path, file="original.safetensors"))
    assert torch.equal(again(images(32, 64)), released(images(32, 64)))
    with pytest.raises(WeightsError, match=r"pretrained.file: no other.safetensors in"):
        load(entry(tmp_path, file="other.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"no safetensors in .*empty; expected diffusion_pytorch_model.safetensors"):
        load(entry(tmp_path / "empty"))


def test_wrong_names_and_shapes_of_the_original_layout_are_named(released, tmp_path):
    path = tmp_path / "original.safetensors"
    tensors = load_file(path)
    qkv = "decoder.stages.2.op_list.1.context_module.main.qkv.conv.weight"
    tensors[qkv] = tensors[qkv][:32].clone()
    tensors["encoder.stages.3.op_list.9.main.conv1.conv.bias"] = torch.zeros(32)
    del tensors["encoder.project_out.main.op_list.0.conv.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightsError) as caught:
        load(entry(path))
    for part in (
        str(path),
        "missing: encoder.project_out.main.op_list.0.conv.bias",
        "not in the model: encoder.stages.3.op_list.9.main.conv1.conv.bias",
        f"{qkv} is [32, 32, 1, 1], expected [96, 32, 1, 1]",
    ):
        assert part in str(caught.value)


def test_files_may_lack_the_counters_of_batch_norm_and_be_in_half_precision(released, tmp_path):
    path = tmp_path / "original.safetensors"
    tensors = {name: t.half() for name, t in load_file(path).items() if not name.endswith("num_batches_tracked")}
    save_file(tensors, path)
    again = load(entry(path))
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    assert difference(again.encode(images(32, 64)), released.encode(images(32, 64))) < 1e-2  # fp16 has three digits
    assert torch.isfinite(again(images(32, 64))).all()


def test_what_is_no_dc_ae_is_refused(tmp_path):
    save_file({"down.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other.safetensors holds no DC-AE: .* got down.weight"):
        load(entry(tmp_path / "other.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(b"12345678901234")
    with pytest.raises(WeightsError, match="not a safetensors file, or cut short"):
        load(entry(tmp_path / "cut.safetensors"))


def test_blocks_that_the_original_code_does_not_have_are_refused(released, tmp_path):
    blocks = ["ResBlock", "ResBlock", "EfficientViTBlock", "TransformerBlock"]
    other = dc_ae({"encoder_blocks": blocks}, pretrained={"id": str(tmp_path / "original")})
    with pytest.raises(WeightsError, match=r"autoencoder unnamed cannot have the weights .* no counterpart"):
        load(other)


# --- the latent scale ---


def test_latent_scale_is_needed_where_no_file_tells_it(released, tmp_path):
    for name in ("original", "original.safetensors", "diffusers.safetensors"):
        with pytest.raises(ConfigError, match=r"autoencoder unnamed: latent_scale is missing: .*safetensors"):
            load(dc_ae(pretrained={"id": str(tmp_path / name)}))
    tuned = load(dc_ae(pretrained={"id": str(tmp_path / "original")}, recipe="dc-ae-three-phase"))
    assert tuned.latent_scale is None  # until the training measures it
    assert load(dc_ae(pretrained={"id": str(tmp_path / "diffusers")})).latent_scale == SCALE


def test_a_scale_of_another_model_is_an_error(released, tmp_path):
    in_for_mix = dc_ae(latent_scale=0.4552, pretrained={"id": str(tmp_path / "diffusers")})
    with pytest.raises(WeightsError, match=r"scaling_factor is 0.25, but latent_scale .* unnamed is 0.4552"):
        load(in_for_mix)
    path = tmp_path / "diffusers" / "config.json"
    stored = json.loads(path.read_text())
    for unset in (1.0, None):
        path.write_text(json.dumps({**stored, "scaling_factor": unset}))
        assert load(in_for_mix).latent_scale == 0.4552
        with pytest.raises(ConfigError, match=rf"latent_scale is missing: .*config.json has {unset}, as where nobody"):
            load(dc_ae(pretrained={"id": str(tmp_path / "diffusers")}))


def test_config_of_another_architecture_is_refused(released, tmp_path):
    other = dc_ae(decoder_output_act="SiLU", latent_scale=SCALE, pretrained={"id": str(tmp_path / "diffusers")})
    with pytest.raises(WeightsError, match=r"config.json is of another autoencoder: decoder_conv_act_fn is 'relu'"):
        load(other)


# --- the original layout, against diffusers' converter ---

SANA = {
    "encoder_depths": [1, 1, 1, 1],
    "decoder_depths": [1, 1, 1, 1],
    "decoder_norms": ["RMSNorm"] * 4,
    "encoder_multiscale": [[], [], [5], [5]],
}
VARIANTS = {
    "in and mix": dc_ae(),
    "sana": dc_ae(
        {**SANA, "decoder_multiscale": [[], [], [5], [5]]}, downsample="strided-conv", upsample="interpolate"
    ),
    "lite": dc_ae(
        {**SANA, "decoder_depths": [0, 1, 2, 1], "decoder_blocks": ["ResBlock"] * 4},
        downsample="strided-conv",
        decoder_output_act="SiLU",
    ),
    "strided without first stage": dc_ae(downsample="strided-conv"),
}


@pytest.fixture(params=VARIANTS)
def autoencoder(request):
    autoencoder = load(VARIANTS[request.param], seed=2)
    for _, tensor in (*autoencoder.named_parameters(), *autoencoder.named_buffers()):
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor)  # no two alike
    return autoencoder


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_there_and_back_is_the_same(autoencoder):
    original = to_original(autoencoder)
    assert {name: tuple(tensor.shape) for name, tensor in original.items()} == original_shapes(autoencoder)
    assert equal(from_original(original, autoencoder), dict(autoencoder.state_dict()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_diffusers_converts_what_is_written_to_the_same(variant):
    autoencoder = load(VARIANTS[variant], seed=3)
    expected = dict(autoencoder.state_dict())
    converted = convert_autoencoder_dc_checkpoint_to_diffusers(to_original(autoencoder))
    # It knows no strided first layer, and takes the kind of the encoder's first layer for that of the decoder's last.
    for wrong, right in (("encoder.conv_in", "encoder.conv_in.conv"), ("decoder.conv_out", "decoder.conv_out.conv")):
        for parameter in ("weight", "bias"):
            if f"{right}.{parameter}" in expected and f"{wrong}.{parameter}" in converted:
                converted[f"{right}.{parameter}"] = converted.pop(f"{wrong}.{parameter}")
    assert equal(converted, expected)


def test_names_of_the_released_files():
    names = original_names(load("dc-ae-f32c32-in-1.0", device="meta"))
    for name in (  # that diffusers tells the released files by
        "encoder.project_in.conv.conv.bias",
        "decoder.project_in.main.conv.weight",
        "decoder.stages.1.op_list.0.main.conv.conv.bias",
    ):
        assert name in names
    sana = original_names(load("dc-ae-f32c32-sana-1.0", device="meta"))
    assert {"encoder.project_in.conv.bias", "decoder.stages.1.op_list.0.main.conv.conv.bias"} <= set(sana)
    assert sana["encoder.stages.3.op_list.0.context_module.main.aggreg.0.1.weight"] == [
        "encoder.down_blocks.3.0.attn.to_qkv_multiscale.0.proj_out.weight"
    ]


def test_a_layout_is_told_by_its_names(autoencoder):
    assert is_original(to_original(autoencoder)) is True
    assert is_original(autoencoder.state_dict()) is False
    assert is_original(["encoder.weight", "unet.conv_in.weight"]) is None
    assert is_original([*to_original(autoencoder), *autoencoder.state_dict()]) is None


def test_layers_that_the_original_code_does_not_have_are_named():
    blocks = ["ResBlock", "ResBlock", "ResBlock", "TransformerBlock"]
    autoencoder = load(dc_ae({"decoder_blocks": blocks}), device="meta")
    with pytest.raises(ValueError, match=r"decoder.up_blocks.3.0.block.norm1 has no counterpart"):
        original_names(autoencoder)

# SPDX-License-Identifier: Apache-2.0
"""Every entry keeps the contract; weights go to a folder and back; mistakes are named."""

import json
import warnings

import pytest
import torch
import yaml
from diffusers.models.autoencoders.vae import DecoderOutput
from safetensors.torch import load_file, save_file

from dcae.autoencoders.contract import Autoencoder, denormalise, middle_layers, normalise
from dcae.autoencoders.dc_ae_config import config_of
from dcae.autoencoders.loading import load, save
from dcae.benchmark import Config, ConfigError
from dcae.weights.catalogue import WeightsError
from tests.autoencoders.small import dc_ae


def reads_config_json(name):
    """Released weights whose architecture only their config.json tells: tested in test_released_families.py."""
    entry = Config().entry("autoencoders", name)
    if entry.kind == "space-to-channel":
        return reads_config_json(entry.autoencoder)
    return entry.kind == "diffusers" and entry.pretrained is not None


ENTRIES = [name for name in sorted(Config().files("autoencoders")) if not reads_config_json(name)]


class Halved(Autoencoder):
    """A user's autoencoder: f2 c12."""

    def __init__(self, channels=12):
        super().__init__(2, channels, latent_scale=2.0)
        self.into = torch.nn.Conv2d(3, channels, 2, stride=2)
        self.out = torch.nn.ConvTranspose2d(channels, 3, 2, stride=2)

    def encode(self, images):
        return self.into(images)

    def decode(self, latents):
        return self.out(latents)


class Crooked(Halved):
    """Decodes to twice the size."""

    def decode(self, latents):
        return torch.nn.functional.interpolate(self.out(latents), scale_factor=2)


class Bare(torch.nn.Module):
    """Says nothing of itself."""

    def encode(self, images):
        return images


PYTHON = {"kind": "python", "factory": f"{__name__}:Halved", "spatial_compression": 2, "latent_channels": 12}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_keeps_the_contract(name):
    entry = Config().entry("autoencoders", name)
    demo = name.endswith("demo")
    autoencoder = load(name, device="cpu" if demo else "meta")
    side = max(64, 2 * entry.spatial_compression)
    images = torch.rand(2, 3, side, side, device="cpu" if demo else "meta") * 2 - 1
    latents = autoencoder.encode(images)
    latent_side = side // entry.spatial_compression
    assert latents.shape == (2, entry.latent_channels, latent_side, latent_side)
    reconstructions = autoencoder.decode(latents)
    assert reconstructions.shape == images.shape
    assert not autoencoder.training
    if demo:
        assert torch.equal(autoencoder.decode(autoencoder.encode(images)), reconstructions)  # deterministic
        reconstructions.abs().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in autoencoder.parameters())
    else:
        assert all(p.is_meta for p in autoencoder.parameters())


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.endswith("demo") and "space" not in name])
def test_every_demo_entry_is_saved_and_loaded(name, tmp_path):
    trained = load(name, seed=7)
    trained.latent_scale = 0.25
    save(trained, tmp_path)
    again = load(name, weights=tmp_path)
    images = torch.rand(1, 3, 128, 128)
    assert again.latent_scale == 0.25
    assert torch.equal(again(images), trained(images))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_an_entry_is_a_name_a_path_a_mapping_or_an_entry(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dc_ae()))
    entry = Config().entry("autoencoders", "dc-ae-f32-demo")
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load("dc-ae-f32-demo")(images), load(entry)(images))
    assert torch.equal(load(path)(images), load(dc_ae())(images))


def test_scale_is_unknown_until_it_is_measured_or_given(tmp_path):
    autoencoder = load(dc_ae())
    with pytest.raises(ValueError, match="latent_scale is unknown"):
        normalise(autoencoder, torch.zeros(1, 8, 1, 1))
    autoencoder.latent_scale = 0.5
    save(autoencoder, tmp_path)
    assert load(dc_ae(), weights=tmp_path).latent_scale == 0.5
    given = load(dc_ae(latent_scale=[1.0] * 7 + [4.0], latent_shift=1.0), weights=tmp_path)
    latents = torch.rand(2, 8, 3, 3)
    normalised = normalise(given, latents)
    torch.testing.assert_close(normalised[:, 7], (latents[:, 7] - 1) * 4)
    torch.testing.assert_close(denormalise(given, normalised), latents)


NOT_FOR_DIFFUSERS = {
    "shortcut: paper-text": {"shortcut": "paper-text"},
    "shortcut: none": {"shortcut": "none"},
    "variational": {"variational": True},
    "TransformerBlock": {"stages": {"decoder_blocks": ["ResBlock", "ResBlock", "ResBlock", "TransformerBlock"]}},
}


@pytest.mark.parametrize("what", NOT_FOR_DIFFUSERS)
def test_what_diffusers_cannot_say_is_marked_and_does_not_open_there(what, tmp_path):
    from diffusers import AutoencoderDC

    entry = dc_ae(**NOT_FOR_DIFFUSERS[what])
    trained = load(entry, seed=8)
    save(trained, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "AutoencoderDC" not in config["_class_name"]
    assert what in config["_not_for_diffusers"]
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load(entry, weights=tmp_path)(images), trained(images))
    with pytest.raises(WeightsError, match="is of another autoencoder"):
        load(dc_ae(), weights=tmp_path)
    with pytest.raises(ValueError, match=r"block_type='none of AutoencoderDC, see _not_for_diffusers' is not"):
        AutoencoderDC.from_pretrained(tmp_path)


def test_the_default_architecture_of_diffusers_is_not_taken_for_one_without_shortcuts(tmp_path):
    """Weights of the same names and shapes, so that nothing but the configuration can keep the two apart."""
    from diffusers import AutoencoderDC

    stages = {
        "widths": [128, 256, 512, 512, 1024, 1024],
        "encoder_depths": [2, 2, 2, 3, 3, 3],
        "decoder_depths": [3, 3, 3, 3, 3, 3],
        "encoder_blocks": ["ResBlock"] * 6,
        "decoder_blocks": ["ResBlock"] * 6,
        "decoder_norms": ["RMSNorm"] * 6,
    }
    ours = load(dc_ae(stages, shortcut="none", spatial_compression=32, latent_channels=32), device="meta")
    with torch.device("meta"):
        theirs = AutoencoderDC()
        with pytest.raises(ValueError, match="is not supported"):
            AutoencoderDC.from_config(config_of(ours.entry))
    assert {name: w.shape for name, w in ours.state_dict().items()} == {
        name: w.shape for name, w in theirs.state_dict().items()
    }


def test_folder_of_another_autoencoder_is_refused(tmp_path):
    save(load(dc_ae()), tmp_path)
    with pytest.raises(WeightsError, match=r"config.json is of another .* encoder_layers_per_block is \[0, 1, 1, 2\]"):
        load(dc_ae({"encoder_depths": [0, 2, 1, 2]}), weights=tmp_path)


def test_wrong_weights_are_named(tmp_path):
    save(load(dc_ae()), tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["encoder.conv_out.weight"] = torch.zeros(3, 3)
    tensors["surplus"] = torch.zeros(1)
    del tensors["decoder.conv_in.bias"]
    save_file(tensors, path)
    for device in ("cpu", "meta"):
        with pytest.raises(WeightsError) as caught:
            load(dc_ae(), weights=tmp_path, device=device)
        for part in (
            str(path),
            "missing: decoder.conv_in.bias",
            "not in the model: surplus",
            "encoder.conv_out.weight is [3, 3], expected [8, 32, 3, 3]",
        ):
            assert part in str(caught.value)


def test_incomplete_folders_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"config.json: no such file"):
        load(dc_ae(), weights=tmp_path)
    save(load(dc_ae()), tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="cut short"):
        load(dc_ae(), weights=tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"safetensors: no such file"):
        load(dc_ae(), weights=tmp_path)


def test_python_entry_is_built_saved_and_loaded(tmp_path):
    autoencoder = load({**PYTHON, "arguments": {"channels": 12}}, seed=3)
    save(autoencoder, tmp_path)
    again = load(PYTHON, weights=tmp_path, seed=4)
    images = torch.rand(1, 3, 8, 8)
    assert again.latent_scale == 2.0
    assert torch.equal(again(images), autoencoder(images))
    with pytest.raises(TypeError, match="Halved has no method middle_layers"):
        middle_layers(autoencoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factory": "no_such_package:thing"}, "factory no_such_package:thing: No module named.*PYTHONPATH"),
        ({"factory": f"{__name__}:Nothing"}, "has no attribute 'Nothing'"),
        ({"arguments": {"chanels": 3}}, "unexpected keyword argument 'chanels'"),
        ({"factory": f"{__name__}:Bare"}, "Bare has no decode; see the contract"),
        ({"latent_channels": 6}, "latent_channels is 6 in the entry, 12 in the code"),
        ({"factory": f"{__name__}:Crooked"}, r"decode returns \(1, 3, 128, 128\)"),
    ],
)
def test_python_entries_that_break_the_contract(change, message):
    with pytest.raises(ConfigError, match=message):
        load({**PYTHON, **change})


class OnlyEncodes(torch.nn.Module):
    """Someone's own autoencoder, f2 c12, without parameters, and with nothing but the two methods."""

    def encode(self, images):
        return torch.nn.functional.pixel_unshuffle(images, 2)

    def decode(self, latents):
        return torch.nn.functional.pixel_shuffle(latents, 2)


def test_a_module_with_encode_and_decode_is_enough_and_the_entry_says_the_rest():
    entry = {**PYTHON, "factory": f"{__name__}:OnlyEncodes"}
    autoencoder = load(entry)
    assert (autoencoder.spatial_compression, autoencoder.latent_channels) == (2, 12)
    assert (autoencoder.latent_scale, autoencoder.latent_shift) == (None, 0.0)
    given = load({**entry, "latent_scale": 0.5, "latent_shift": 1.0})
    torch.testing.assert_close(normalise(given, torch.full((1, 12, 1, 1), 3.0)), torch.ones(1, 12, 1, 1))
    stacked = {"kind": "space-to-channel", "autoencoder": "patch-pca-f8c4", "factor": 2}
    below = load("patch-pca-f8c4")
    above = load({**stacked, "spatial_compression": 16, "latent_channels": 16})
    assert above.latent_scale == below.latent_scale != 1.0


def test_a_scale_to_be_measured_takes_the_place_of_one_in_the_code(tmp_path):
    assert load({**PYTHON, "latent_scale": "measured"}).latent_scale is None
    for entry in ({**PYTHON, "recipe": "dc-ae-three-phase"}, dc_ae()):
        with pytest.raises(ConfigError, match="latent_scale: measured is for entries of kind python or diffusers"):
            load({**entry, "latent_scale": "measured"})


def answering(what: str = "", where: str = "decode"):
    """An autoencoder, one of whose methods returns or raises something else than it should."""
    answers = {
        "tuple": lambda found: (found,),
        "list": lambda found: [found],
        "nothing": lambda found: None,
        "output": lambda found: DecoderOutput(sample=found),
        "array": lambda found: found.detach().numpy(),
        "uint8": lambda found: found.to(torch.uint8),
        "bool": lambda found: found > 0,
        "complex": lambda found: found.to(torch.complex64),
        "sparse": lambda found: found.to_sparse(),
        "0 to 255": lambda found: (found + 1) * 127.5,
        "index": lambda found: found[7],
        "item": lambda found: found * found.mean().item(),
    }

    class Answering(Halved):
        pass

    def answer(self, argument):
        return answers[what](getattr(Halved, where)(self, argument))

    setattr(Answering, where, answer)
    return Answering()


def no_module():
    return Halved


def leaves():
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": "tuple"}, r"decode returns an object of type tuple, expected a tensor \(1, 3, 64, 64\)"),
        ({"what": "list", "where": "encode"}, "encode returns an object of type list"),
        ({"what": "nothing"}, "decode returns an object of type NoneType"),
        ({"what": "output"}, "decode returns an object of type DecoderOutput with sample, expected a tensor"),
        ({"what": "array"}, "decode returns an object of type ndarray"),
        ({"what": "uint8"}, "decode returns a tensor of torch.uint8, .* expected dense floating-point values"),
        ({"what": "bool"}, "decode returns a tensor of torch.bool"),
        ({"what": "complex"}, "decode returns a tensor of torch.complex64"),
        ({"what": "sparse", "where": "encode"}, "encode returns a tensor of torch.float32, torch.sparse_coo"),
        ({"what": "0 to 255"}, r"decode returns values of about 1.* for a grey image; expected images in \[-1, 1\]"),
        ({"what": "index"}, r"decode raises IndexError: .* \(test_loading.py, line \d+\), given a tensor \(1, 12"),
    ],
)
def test_answers_that_are_no_images_or_latents_are_named(arguments, message):
    with pytest.raises(ConfigError, match=rf"^autoencoder unnamed: {message}"):
        load({**PYTHON, "factory": f"{__name__}:answering", "arguments": arguments})


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (f"{__name__}:no_module", "returns type, expected a torch.nn.Module"),
        (f"{__name__}:leaves", r"leaves\(.*\): SystemExit: 3"),
        (f"{__name__}:dc_ae", "returns dict, expected a torch.nn.Module"),
        ("not_python:f", r"importing not_python: SyntaxError"),
    ],
)
def test_a_factory_that_fails_is_named(factory, message, monkeypatch, tmp_path):
    (tmp_path / "not_python.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"^autoencoder unnamed: .*{message}"):
        load({**PYTHON, "factory": factory})


def test_a_video_model_that_the_entry_does_not_tell_of_is_named():
    config = {"block_out_channels": [32] * 4, "layers_per_block": 1, "norm_num_groups": 8}
    entry = {"kind": "diffusers", "class": "AutoencoderKLCogVideoX", "spatial_compression": 8, "latent_channels": 16}
    with pytest.raises(ConfigError, match=r"^autoencoder unnamed: encode raises .*`conventions: {video: true}`"):
        load({**entry, "config": config}, device="meta")
    load({**entry, "config": config, "conventions": {"video": True}}, device="meta")


def test_code_that_reads_values_cannot_run_on_shapes_alone():
    entry = {**PYTHON, "factory": f"{__name__}:answering", "arguments": {"what": "item"}}
    with pytest.raises(ConfigError, match=r"^autoencoder unnamed: decode raises .*meta"):
        load(entry, device="meta")
    load(entry)


def test_check_leaves_no_trace(monkeypatch):
    class Counting(Halved):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(12)

        def encode(self, images):
            return self.norm(self.into(images))

    monkeypatch.setitem(globals(), "Counting", Counting)
    autoencoder = load({**PYTHON, "factory": f"{__name__}:Counting"})
    assert autoencoder.norm.num_batches_tracked == 0


def test_random_weights_are_told_of_unless_they_are_wanted(tmp_path):
    with pytest.warns(UserWarning, match=r"dc-ae-f32-demo has random weights: .* give weights=FOLDER"):
        load("dc-ae-f32-demo")
    with pytest.warns(UserWarning, match="dc-ae-f8c4-demo has random weights"):
        load("dc-ae-f8c4-space-to-channel-f64-demo")
    save(load("dc-ae-f32-demo", untrained=True), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("dc-ae-f32-demo", weights=tmp_path)
        load("dc-ae-f32-demo", untrained=True)
        load("dc-ae-f32-demo", device="meta")
        load("identity")

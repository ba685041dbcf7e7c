# SPDX-License-Identifier: Apache-2.0
"""A denoiser's folder: round trip, what is expected of it, and what an interrupted saving leaves."""

import json

import pytest
import torch

from dcae.benchmark.config import Config
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.checkpoint import load_denoiser, save_denoiser
from dcae.weights.catalogue import WeightsError

CONFIG = Config()


def a_denoiser(name="uvit-demo", seed=0, classes=5):
    torch.manual_seed(seed)
    return build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, classes)


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo"])
def test_a_loaded_denoiser_is_the_saved_one(tmp_path, name):
    denoiser = a_denoiser(name)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_denoiser(denoiser, tmp_path, {"steps": 180})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_denoiser(tmp_path, CONFIG.entry("diffusion", name), latent_channels=4, latent_size=4, classes=5)
    assert not loaded.training
    assert (loaded.config, loaded.metadata) == (denoiser.config, {"steps": 180})
    inputs = torch.randn(2, 4, 4, 4), torch.tensor([1, 500]), torch.tensor([0, 5])
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), denoiser(*inputs))


def test_a_loaded_pixart_is_the_saved_one(tmp_path):
    denoiser, entry = a_denoiser("pixart-demo"), CONFIG.entry("diffusion", "pixart-demo")
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_denoiser(denoiser, tmp_path)
    captions = Captions(torch.randn(2, 6, 64), torch.ones(2, 6, dtype=torch.bool))
    inputs = torch.randn(2, 4, 4, 4), torch.tensor([1, 500]), captions
    with torch.no_grad():
        assert torch.equal(load_denoiser(tmp_path, entry, classes=5)(*inputs), denoiser.eval()(*inputs))
    other = entry.model_copy(update={"caption_channels": 32})
    with pytest.raises(WeightsError, match="caption_channels is 64, expected 32"):
        load_denoiser(tmp_path, other)


def test_an_unconditional_denoiser_fits_data_with_classes(tmp_path):
    entry = CONFIG.entry("diffusion", "uvit-demo").model_copy(update={"conditioning": "none"})
    save_denoiser(build_denoiser(entry, 4, 4, 2, classes=5), tmp_path)
    assert load_denoiser(tmp_path, entry, classes=5).null_label == 0
    with pytest.raises(WeightsError, match="classes is 0, expected 5"):
        load_denoiser(tmp_path, CONFIG.entry("diffusion", "uvit-demo"), classes=5)


def test_the_config_is_readable_json(tmp_path):
    save_denoiser(a_denoiser(), tmp_path, {"steps": 180})
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["metadata"] == {"steps": 180}
    assert content["denoiser"]["kind"] == "u-vit" and content["denoiser"]["latent_channels"] == 4


def test_saving_again_replaces(tmp_path):
    save_denoiser(a_denoiser(seed=0), tmp_path)
    other = a_denoiser(seed=1)
    save_denoiser(other, tmp_path)
    assert torch.equal(load_denoiser(tmp_path).output.weight, other.output.weight)


def test_a_denoiser_of_another_shape_is_refused_naming_the_fields(tmp_path):
    save_denoiser(a_denoiser(), tmp_path)
    with pytest.raises(WeightsError, match="latent_channels is 4, expected 32; patch_size is 2, expected 1"):
        load_denoiser(tmp_path, latent_channels=32, patch_size=1, classes=5)
    with pytest.raises(WeightsError, match="kind is 'u-vit', expected 'dit'"):
        load_denoiser(tmp_path, CONFIG.entry("diffusion", "dit-demo"))


def test_an_unfinished_saving_is_refused(tmp_path):
    save_denoiser(a_denoiser(), tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: no such file"):
        load_denoiser(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
        load_denoiser(tmp_path)


def test_config_and_weights_of_different_savings_are_refused(tmp_path):
    save_denoiser(a_denoiser(classes=5), tmp_path / "five")
    save_denoiser(a_denoiser(classes=6), tmp_path / "six")
    (tmp_path / "six" / "config.json").write_bytes((tmp_path / "five" / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"config\.json is not the one that model\.safetensors was saved with"):
        load_denoiser(tmp_path / "six")


def test_a_stop_while_saving_leaves_no_weights_of_an_older_saving(tmp_path, monkeypatch):
    save_denoiser(a_denoiser(seed=0), tmp_path)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dcae.diffusion.models.checkpoint.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        save_denoiser(a_denoiser(seed=1), tmp_path, {"steps": 360})
    with pytest.raises(WeightsError):
        load_denoiser(tmp_path)

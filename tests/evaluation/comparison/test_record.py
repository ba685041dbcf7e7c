# SPDX-License-Identifier: Apache-2.0
"""``evaluation.evaluate``: a record of a module or an entry on a folder of pictures, from a notebook."""

import pytest
import torch
from PIL import Image

import evaluation
from dcae.benchmark import Config, ConfigError, Record
from dcae.data.photographs import folder as photographs
from evaluation.features.quantisation import to_network, to_uint8
from evaluation.metrics.psnr_ssim import psnr


class Darker(torch.nn.Module):
    """Someone's own autoencoder, which knows nothing of this project."""

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2) * 0.9


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea.png", "coffee.png"):
        Image.open(photographs() / name).crop((0, 0, 64, 64)).save(made / name)
    return made


def test_a_module_gets_a_record_with_the_numbers_of_its_pictures(pictures, tmp_path):
    record = evaluation.evaluate(Darker(), images=pictures, protocol="random-features", resolution=64)
    assert record.cell == {"dataset": pictures.name, "resolution": 64, "autoencoder": "Darker"}
    stored = [torch.frombuffer(bytearray(Image.open(path).tobytes()), dtype=torch.uint8) for path in _sorted(pictures)]
    images = torch.stack([each.view(64, 64, 3).permute(2, 0, 1) for each in stored])
    made = to_uint8(Darker().decode(Darker().encode(to_network(images))))
    assert record.values["psnr"].value == pytest.approx(float(psnr(made, images).mean()), abs=1e-6)
    assert record.values["lpips"].random_features
    assert "2 pictures are too few" in record.excluded["rfid"]
    assert record.provenance.command.startswith("evaluation.evaluate(Darker, ")
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record


def _sorted(folder):
    return sorted(folder.glob("*.png"))


def test_an_entry_is_given_by_its_name_and_metrics_without_weights_are_named(pictures):
    record = evaluation.evaluate("identity", images=pictures, protocol="dc-ae", resolution=64)
    assert record.values["psnr"].unchanged == 2
    assert set(record.values) >= {"psnr", "ssim"} and "lpips" not in record.values
    assert "lpips" in record.excluded
    assert record.protocol["name"] == "dc-ae" and "lpips" not in record.protocol


def test_a_protocol_of_speed_is_refused(pictures):
    with pytest.raises(ConfigError, match="expected quality"):
        evaluation.evaluate("identity", images=pictures, protocol=Config().entry("protocols", "paper"))

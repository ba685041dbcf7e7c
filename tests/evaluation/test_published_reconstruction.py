# SPDX-License-Identifier: Apache-2.0
"""What others have published about released autoencoders: the file, and errors about it."""

from __future__ import annotations

import pytest

from dcae.benchmark import Config
from evaluation.published_reconstruction import COLUMNS, METRICS, has_published_elsewhere, read_published_reconstruction

HEAD = ",".join(COLUMNS) + "\n"
LINE = "sdxl-vae,SDXL,ImageNet,val,256,,0.68,26.04,,,,,not stated,a paper,\n"


def test_every_entry_that_a_line_names_is_an_entry_here_and_has_weights_of_others():
    config = Config()
    named = {row.autoencoder for row in read_published_reconstruction()} - {None}
    assert named and all(config.entry("autoencoders", name).pretrained for name in named)


def test_numbers_are_possible_and_keep_their_printed_decimals():
    rows = read_published_reconstruction()
    highest = {"rfid": 10, "psnr": 40, "ssim": 1, "lpips": 1, "psim": 2, "rfdd": 20}
    for row in rows:
        assert row.values and set(row.values) <= set(METRICS)
        assert all(0 < float(text) < highest[metric] for metric, text in row.values.items())
    [ft_mse] = [row for row in rows if row.source.startswith("lavinal712") and row.autoencoder == "sd-vae-ft-mse"]
    assert ft_mse.values == {"rfid": "0.692", "psnr": "26.910", "ssim": "0.772", "lpips": "0.130"}


def test_one_autoencoder_has_numbers_that_do_not_agree():
    """The reason for all of this: SD-VAE's rFID on the same data, by source."""
    rows = read_published_reconstruction()
    rfids = {
        float(row.values["rfid"]) for row in rows if row.printed_name.startswith("SD-VAE") and "rfid" in row.values
    }
    assert len(rfids) >= 4 and max(rfids) > 1.2 * min(rfids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", r"expected the columns \['autoencoder'"),
        (HEAD + LINE + LINE, "line 3: line 2 is of the same source and autoencoder"),
        (HEAD + LINE.replace("a paper", ""), "line 2: source is empty"),
        (HEAD + LINE.replace("0.68,26.04", ","), "line 2: no number: give at least one of rfid"),
        (HEAD + LINE.replace("0.68", "o.68"), "line 2: could not convert"),
    ],
)
def test_a_wrong_line_is_named(text, message, tmp_path):
    (tmp_path / "reconstruction.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_published_reconstruction(tmp_path / "reconstruction.csv")


def test_only_released_autoencoders_have_numbers_elsewhere():
    assert has_published_elsewhere(["identity", "flux-vae"])
    assert not has_published_elsewhere(["identity", "sd-vae-f8-demo", "dc-ae-f32c32"])

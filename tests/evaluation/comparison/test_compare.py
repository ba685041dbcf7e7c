# SPDX-License-Identifier: Apache-2.0
"""Autoencoders on a folder of photographs, from the files to the page."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from dcae.autoencoders.contract import Autoencoder
from dcae.autoencoders.loading import load
from dcae.benchmark import Config, Record
from dcae.data.photographs import folder as photographs
from dcae.data.storage.files import DatasetError
from dcae.weights.catalogue import CATALOGUE, WeightsError
from evaluation.comparison import compare as comparing
from evaluation.comparison import gallery, measurable
from evaluation.comparison.compare import CompareError, Contender, compare, write_comparison
from evaluation.comparison.pictures import find_pictures
from evaluation.comparison.tables import difference
from evaluation.metrics.psnr_ssim import psnr
from evaluation.metrics.registry import FID, IMAGE_METRICS
from evaluation.page.pictures import Gallery
from tests.autoencoders.released_families import saved
from tests.evaluation import tiny_detectors
from tests.evaluation.page.parsed import Page

SIDE = 64
STRANGE = 'a <img src=x onerror=alert(1)> & "b".png'


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Five photographs, one in a sub-folder under a strange name, one too small, one not to be read."""
    made = tmp_path_factory.mktemp("pictures")
    (made / "more").mkdir()
    for name in ("chelsea.png", "coffee.png", "astronaut.png"):
        shutil.copy(photographs() / name, made / name)
    shutil.copy(photographs() / "motorcycle_left.png", made / "more" / STRANGE)
    Image.open(photographs() / "chelsea.png").resize((48, 40)).save(made / "small.png")
    (made / "broken.jpg").write_text("no picture")
    (made / "notes.txt").write_text("no picture either, and no image file")
    return made


@pytest.fixture(scope="module")
def contenders(tmp_path_factory) -> list[Contender]:
    config = Config()
    _, tiny = saved("taesd", tmp_path_factory.mktemp("taesd"))
    return [*(Contender(config.entry("autoencoders", name)) for name in ("identity", "blur")), Contender(tiny)]


def protocol(name: str = "random-features"):
    return Config().entry("protocols", name)


@pytest.fixture(scope="module")
def comparison(pictures, contenders):
    said = []
    found = compare(pictures, contenders, protocol(), SIDE, Config(), batch_size=2, tell=said.append)
    return found, said


def test_every_picture_is_measured_and_the_others_are_named(comparison):
    found, said = comparison
    assert found.pictures.names == ["astronaut.png", "chelsea.png", "coffee.png", "small.png", f"more/{STRANGE}"]
    assert list(found.pictures.left_out) == ["broken.jpg"] and found.pictures.enlarged == ["small.png"]
    assert [each.values["psnr"].n for each in found.measured.values()] == [5, 5, 5]
    assert said[: len(found.warnings)] == found.warnings
    kinds = [re.match(r"[\w ]+: (metric \w+|picture [\w.]+|1 of 5)", line)[1] for line in found.warnings]
    assert kinds == ["picture broken.jpg", "1 of 5", "metric rFID"]


def test_statistics_of_latents_are_not_needed_to_reconstruct(tmp_path):
    _, entry = saved("taesd", tmp_path)
    config = next(tmp_path.rglob("config.json"))
    config.write_text(json.dumps({**json.loads(config.read_text()), "latents_mean": [0.0] * 4}))
    entry = entry.model_copy(update={"latent_scale": None, "latent_shift": None})
    with pytest.raises(WeightsError, match="latents_mean and latents_std have different meanings"):
        load(entry)
    assert comparing._load(Contender(entry), SIDE, Config(), "cpu").latent_scale is None


def test_values_are_those_of_the_pictures(comparison, pictures):
    found, _ = comparison
    assert found.measured["identity"].per_image["psnr"].isinf().all()
    crop = found.pictures.batch([1])[0].numpy()
    small = np.asarray(crop).reshape(3, 8, 8, 8, 8).mean((2, 4))
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None], scale_factor=8, mode="bilinear", align_corners=False
    )
    expected = peak_signal_noise_ratio(crop, pixels[0].round().to(torch.uint8).numpy())
    # Rounding of 127.5 x + 128 and of the mean of 8-bit values may differ by 1 in a few pixels.
    assert found.measured["blur"].per_image["psnr"][1].item() == pytest.approx(expected, abs=0.05)


def pixels_of(url: str) -> torch.Tensor:
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,"))))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_every_picture_is_shown_once_without_loss_as_it_was_measured_the_worst_first(comparison):
    found, _ = comparison
    worst = found.measured["taesd"].per_image["psnr"]  # the only one that is no control
    names = [found.pictures.names[index] for index in worst.argsort().tolist()]
    assert [strip.name for strip in found.gallery.strips] == names
    assert found.gallery.columns == ["original", "identity", "blur", "taesd"]
    for strip in found.gallery.strips:
        index = found.pictures.names.index(strip.name)
        original, *others = map(pixels_of, strip.images)
        assert torch.equal(original, found.pictures.batch([index])[0])
        for measured, pixels in zip(found.measured.values(), others, strict=True):
            assert psnr(pixels[None], original[None]).item() == measured.per_image["psnr"][index].item()
        assert f"PSNR {worst[index]:.3g} dB" in strip.values[3] and "LPIPS" in strip.values[3]


def test_a_page_stays_small_the_worst_pictures_without_loss(pictures, contenders, monkeypatch):
    def shown(**limits: int) -> Gallery:
        for name, value in limits.items():
            monkeypatch.setattr(gallery, name, value)
        return compare(
            pictures, contenders[1:2], protocol(), SIDE, Config(), tell=str, metrics=IMAGE_METRICS[:1]
        ).gallery

    lossless = 2 * len(shown().strips[0].images[0])
    some = shown(LOSSLESS=lossless, LARGEST=lossless + 20_000)
    assert {pixels_of(strip.images[0]).shape[-1] for strip in some.strips} == {SIDE} and len(some.strips) == 5
    assert "compressed" not in some.strips[0].remark and "compressed" in some.strips[-1].remark
    assert f"compressed, at {SIDE} px" in some.note
    monkeypatch.setattr(gallery, "SMALLEST_SIDE", 8)
    few = shown(LOSSLESS=0, LARGEST=4000)
    assert sum(len(each) for strip in few.strips for each in strip.images) < 1.5 * 4000
    assert f"{len(few.strips)} of 5 pictures" in few.note and len(few.strips) < 5
    assert pixels_of(few.strips[0].images[0]).shape[-1] == SIDE // 2


def test_files_of_a_comparison(comparison, tmp_path):
    found, _ = comparison
    written = write_comparison(found, tmp_path, {"device": "a <machine>"})
    assert [path for path in written if not path.is_file()] == [] and written[0].name == "comparison.html"
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * 5 and {row["image"] for row in rows} == set(found.pictures.names)
    assert float(rows[5]["psnr"]) == found.measured["blur"].per_image["psnr"][0].item()
    [summary] = [r for r in csv.DictReader((tmp_path / "reconstruction.csv").open()) if r["Autoencoder"] == "blur"]
    assert float(summary["PSNR (dB)"]) == found.measured["blur"].values["psnr"].value and summary["PSNR (dB), n"] == "5"
    records = {path.stem: Record.read(path) for path in (tmp_path / "records").iterdir()}
    assert {name: record.number_class for name, record in records.items()} == {
        "identity": "control", "blur": "control", "taesd": "re-evaluated",
    }  # fmt: skip
    assert records["taesd"].values["psnr"] == found.measured["taesd"].values["psnr"]
    assert records["taesd"].excluded == {"rfid": "5 pictures are too few, it needs 256"}


def test_the_page_is_that_of_a_benchmark_with_names_as_text_alone(comparison, tmp_path):
    found, _ = comparison
    page = Page(write_comparison(found, tmp_path, {"device": "a <machine>"})[0].read_text())
    sections = ("run", "tables", "scatter", "reconstructions", "records")
    assert [each["href"] for each, _ in page.find("a") if each["href"].removeprefix("#") in sections] == [
        f"#{name}" for name in sections
    ]
    sources = [each["src"] for each, _ in page.find("img")]
    assert sources == [image for strip in found.gallery.strips for image in strip.images]
    assert not page.find("script", src="") and len(page.find("script")) == 2
    [(_, run)] = page.find("section", id="run")
    assert "a <machine>" in run and "picture broken.jpg: " in run
    assert f"more/{STRANGE}" in [each["data-name"] for each, _ in page.find("figure", **{"class": "strip"})]
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    numbers = [each["href"].removeprefix("#") for each, _ in page.find("a", **{"class": "number"})]
    assert len(numbers) > 9 and set(numbers) <= ids
    [point] = json.loads(page.find("script", type="application/json")[0][1])["points"]
    assert point["name"] == "taesd" and set(point["costs"]) == {
        "latent_size", "spatial_compression", "autoencoder_parameters",
    }  # fmt: skip


def test_what_cannot_be_measured_is_left_out_and_the_rest_goes_on(pictures, contenders, tmp_path, monkeypatch):
    empty = tmp_path / "config" / "weights.yaml"  # weights_dir is a folder beside config
    empty.parent.mkdir()
    shutil.copy(CATALOGUE, empty)
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(empty))
    config = Config()
    entries = ("rae-dinov2-b", "dc-ae-f128c512-in-1.0", "sd-vae-f8-demo", "dc-ae-f8c4-space-to-channel-f64-demo")
    others = [Contender(config.entry("autoencoders", name)) for name in entries]
    found = compare(pictures, [contenders[1], *others], protocol("dc-ae"), SIDE, config, shown=1, tell=lambda _: None)
    assert list(found.measured) == ["blur"] and set(found.measured["blur"].values) == {"psnr", "ssim"}
    assert list(found.left_out) == list(entries)
    told = "\n".join(found.warnings)
    for part in (
        "metric LPIPS: missing weights 'lpips-alexnet'", "metric rFID: 5 pictures are too few, it needs 256",
        "rae-dinov2-b: takes images of 256 px alone, not 64", "64 px is no multiple of its spatial compression 128",
        "sd-vae-f8-demo: is trained here: give its weights as sd-vae-f8-demo=FOLDER",
    ):  # fmt: skip
        assert part in told
    with pytest.raises(CompareError, match=r"no autoencoder could be measured:\nsd-vae-f8-demo: is trained here"):
        compare(pictures, others[2:], protocol(), SIDE, config, tell=lambda _: None)


def test_rfid_is_measured_where_there_are_enough_pictures(pictures, monkeypatch, few_features):
    monkeypatch.setattr(measurable, "FEWEST_FOR_RFID", 5)
    controls = [Contender(Config().entry("autoencoders", name)) for name in ("identity", "mean-colour")]
    measured = compare(pictures, controls, protocol(), SIDE, Config(), shown=0, tell=lambda _: None).measured
    perfect, worst = (each.values["rfid"] for each in measured.values())
    assert perfect.value == pytest.approx(0, abs=1e-3 * worst.value)
    assert worst.n == 5 and worst.standard_error > 0 and worst.random_features
    found = difference(*measured.values(), FID.of_reconstructions())
    assert found.difference == perfect.value - worst.value and found.standard_error == pytest.approx(
        worst.standard_error
    )


def test_memory_that_does_not_suffice_and_no_pictures_shown(pictures, contenders, monkeypatch, tmp_path):
    class Huge(Autoencoder):
        def encode(self, images):
            raise torch.OutOfMemoryError("CUDA out of memory")

    def loaded(entry, **arguments):
        return Huge(8, 4) if entry.name == "taesd" else load(entry, **arguments)

    monkeypatch.setattr("evaluation.comparison.compare.load", loaded)
    found = compare(pictures, contenders, protocol(), SIDE, Config(), shown=0, tell=lambda _: None)
    assert found.left_out == {"taesd": "needs more memory than cpu has for 4 pictures at a time"}
    assert "<figure" not in write_comparison(found, tmp_path, {})[0].read_text()


def test_pictures_may_lie_in_a_zip_file(pictures, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", pictures))
    inside, outside = find_pictures(archive, SIDE), find_pictures(pictures, SIDE)
    assert inside.names == outside.names and list(inside.left_out) == ["broken.jpg"]
    assert torch.equal(inside.batch(range(5)), outside.batch(range(5)))


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        find_pictures(tmp_path / "nowhere", SIDE)
    with pytest.raises(DatasetError, match=r"no images in it; expected files ending in \.bmp"):
        find_pictures(tmp_path, SIDE)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"(?s)none of its 1 images can be read.*broken.png: "):
        find_pictures(tmp_path, SIDE)


def test_pictures_with_faces_are_measured_by_themselves_and_missing_detectors_are_named(tmp_path, monkeypatch):
    """A face is what is red, to the tiny detector; that of text is missing."""
    files = {tiny_detectors.FACES: tiny_detectors.faces(), tiny_detectors.TEXT: tiny_detectors.text()}
    catalogue = tiny_detectors.catalogue(tmp_path, files, missing=[tiny_detectors.TEXT])
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(catalogue))
    (tmp_path / "pictures").mkdir()
    for index, red in enumerate((True, False, True)):
        pixels = np.random.default_rng(index).integers(0, 80, (SIDE, SIDE, 3), np.uint8)
        if red:
            pixels[:40, :40] = 255, 0, 0
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
    subsets = Config().entry("protocols", "faces-and-text").subsets
    chosen = protocol().model_copy(update={"subsets": subsets})
    contenders = [Contender(Config().entry("autoencoders", name)) for name in ("blur", "mean-colour")]
    found = compare(tmp_path / "pictures", contenders, chosen, SIDE, Config(), shown=1, tell=lambda line: None)
    blur = found.measured["blur"]
    assert blur.values["psnr_face"].n == 2
    assert blur.values["psnr_face"].value == pytest.approx(float(blur.per_image["psnr"][[0, 2]].mean()))
    assert any(line.startswith("Left out: pictures with text: missing weights") for line in found.warnings)
    written = write_comparison(found, tmp_path / "out", {})
    table = next(csv.DictReader((tmp_path / "out" / "reconstruction.csv").open()))
    assert float(table["PSNR (dB), face"]) == pytest.approx(blur.values["psnr_face"].value)
    assert "PSNR (dB), text" not in table
    assert "PSNR (dB) ↑ face" in written[0].read_text()


def test_too_few_pictures_with_faces_are_named(tmp_path, monkeypatch):
    catalogue = tiny_detectors.catalogue(tmp_path, {tiny_detectors.FACES: tiny_detectors.faces()})
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(catalogue))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / "pictures" / "red.png")
    subsets = {"face": Config().entry("protocols", "faces-and-text").subsets["face"]}
    chosen = protocol().model_copy(update={"subsets": subsets})
    contenders = [Contender(Config().entry("autoencoders", "blur"))]
    found = compare(tmp_path / "pictures", contenders, chosen, SIDE, Config(), shown=0, tell=lambda line: None)
    assert "Left out: pictures with face: needs at least 2 images with face, there are 1 of 1" in found.warnings
    assert "psnr_face" not in found.measured["blur"].values

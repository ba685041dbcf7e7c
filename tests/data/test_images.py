# SPDX-License-Identifier: Apache-2.0
"""Folders of images: order, classes, captions, and errors that name the file."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

from dcae.benchmark.config import Config
from dcae.data.crop import adm_crop, to_pixels
from dcae.data.images import Images
from dcae.data.layouts.any_folder import index_folder
from dcae.data.loading import open_captioned
from dcae.data.storage.files import DatasetError
from tests.data import replicas


def images_in(path, resolution, **options):
    return Images(index_folder(path), resolution, **options)


def names(dataset):
    return dataset.samples.names.to_pylist()


def save(path, size=(40, 30), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def classes(tmp_path):
    for k, name in enumerate(
        ["n02/b.png", "n02/a.JPEG", "n01/deep/c.png", "n01/z.png", "n01/deep.d/x.png", "n10/q.webp"]
    ):
        save(tmp_path / name, seed=k)
    (tmp_path / "n01" / "notes.md").write_text("not an image")
    return tmp_path


def test_order_and_labels_are_those_of_torchvision(classes):
    dataset, reference = images_in(classes, 16), ImageFolder(classes)
    assert [str(classes / file) for file in names(dataset)] == [path for path, _ in reference.samples]
    assert [dataset.label(k) for k in range(len(dataset))] == reference.targets
    assert dataset.classes == reference.classes


def test_items_are_adm_crops(classes):
    dataset = images_in(classes, 16)
    sample = dataset[2]
    expected = to_pixels(adm_crop(Image.open(classes / names(dataset)[2]).convert("RGB"), 16))
    np.testing.assert_array_equal(sample.image.numpy(), expected)
    assert sample.caption == ""
    assert dataset.batch([0, 1, 5]).shape == (3, 3, 16, 16)


def test_a_folder_without_sub_folders_is_one_class(tmp_path):
    for name in ("2.png", "10.png", ".hidden.png"):
        save(tmp_path / "birds" / name)
    dataset = images_in(tmp_path / "birds", 8)
    assert (dataset.classes, names(dataset), dataset.label(1)) == (["birds"], ["10.png", "2.png"], 0)


def test_captions_stand_beside_the_images(tmp_path):
    save(tmp_path / "one.png")
    save(tmp_path / "two.png")
    (tmp_path / "one.txt").write_text("ein Fuß \n", encoding="utf-8")
    dataset = images_in(tmp_path, 8)
    assert [dataset[0].caption, dataset[1].caption] == ["ein Fuß", ""]


@pytest.mark.parametrize(
    ("mode", "ending"), [("L", "png"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
)
def test_other_modes_become_rgb(tmp_path, mode, ending):
    path = save(tmp_path / f"image.{ending}", mode=mode)
    expected = to_pixels(adm_crop(Image.open(path).convert("RGB"), 16))
    np.testing.assert_array_equal(images_in(tmp_path, 16).pixels(0), expected)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    image = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))).convert("RGB")
    image.save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(images_in(tmp_path, 32).pixels(0), to_pixels(image))


def test_random_crops_differ_between_epochs_but_not_between_runs(tmp_path):
    save(tmp_path / "image.png", size=(100, 100))
    dataset, again = (images_in(tmp_path, 16, crop="random") for _ in range(2))
    crops = [dataset.image(0, epoch) for epoch in range(5)]
    assert all(torch.equal(crop, again.image(0, epoch)) for epoch, crop in enumerate(crops))
    assert len({crop.numpy().tobytes() for crop in crops}) == 5
    assert dataset.fingerprint != images_in(tmp_path, 16).fingerprint
    assert dataset.fingerprint != images_in(tmp_path, 16, crop="random", seed=1).fingerprint


def test_fingerprint_follows_names_and_sizes(classes):
    before = images_in(classes, 16).fingerprint
    assert images_in(classes, 16).fingerprint == before != images_in(classes, 32).fingerprint
    added = save(classes / "n10" / "r.png")
    assert images_in(classes, 16).fingerprint != before
    added.unlink()
    save(classes / "n01" / "z.png", size=(50, 50))
    assert images_in(classes, 16).fingerprint != before


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"train: no such folder; .*`path`"):
        images_in(tmp_path / "train", 16)


def test_empty_folder(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DatasetError, match=rf"{tmp_path}: no images in it; expected files ending in \.bmp"):
        images_in(tmp_path, 16)


def test_empty_class(classes):
    (classes / "n03").mkdir()
    with pytest.raises(DatasetError, match="n03: a class without images"):
        images_in(classes, 16)


def test_image_beside_classes(classes):
    save(classes / "loose.png")
    with pytest.raises(DatasetError, match=r"loose\.png: is next to sub-folders"):
        images_in(classes, 16)


@pytest.mark.parametrize("content", [b"", b"not an image", "half"])
def test_unreadable_image(tmp_path, content):
    path = save(tmp_path / "bad.png")
    path.write_bytes(path.read_bytes()[:900] if content == "half" else content)
    dataset = images_in(tmp_path, 16)
    with pytest.raises(DatasetError, match=rf"{path}: cannot be read as an image .*replace or remove"):
        dataset[0]


def test_image_that_has_gone(tmp_path):
    path = save(tmp_path / "gone.png")
    dataset = images_in(tmp_path, 16)
    path.unlink()
    with pytest.raises(DatasetError, match=f"{path}: cannot be read"):
        dataset[0]


def test_sixteen_bits_are_refused_rather_than_cut_off(tmp_path):
    Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DatasetError, match=r"deep\.png: has more than 8 bits per channel"):
        images_in(tmp_path, 16)[0]


@pytest.mark.parametrize("place", ["folder", "zip"])
def test_worker_processes_read_what_this_one_reads_and_pass_on_what_is_wrong(tmp_path, place):
    members = {f"{k % 3}/{k:02}.jpg": replicas.encoded(str(k)) for k in range(20)} | {"3/bad.jpg": b""}
    for name, data in members.items():
        replicas.write(tmp_path / "images" / name, data)
    root = tmp_path / "images" if place == "folder" else replicas.zipped(tmp_path / "images.zip", members)
    dataset = images_in(root, 8)
    loader = DataLoader(Subset(dataset, range(20)), batch_size=None, num_workers=2)
    assert torch.equal(torch.stack([sample.image for sample in loader]), dataset.batch(range(20)))
    with pytest.raises(DatasetError, match=r"3/bad\.jpg: cannot be read as an image \(the file is empty\); replace"):
        list(DataLoader(dataset, batch_size=None, num_workers=1))


def test_the_fingerprint_of_captions_follows_their_words_and_not_the_images_alone(tmp_path):
    def fingerprint(**captions: str) -> str:
        for name, caption in captions.items():
            (tmp_path / f"{name}.txt").write_text(caption)
        return images_in(tmp_path, 8).captions_fingerprint

    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    images = images_in(tmp_path, 8).fingerprint
    found = [images_in(tmp_path, 8).captions_fingerprint, fingerprint(a="one", b="two"), fingerprint(b="three")]
    assert len(set(found)) == 3
    assert images_in(tmp_path, 8).fingerprint == images
    Image.new("RGB", (80, 80), "red").save(tmp_path / "a.png")
    assert fingerprint() not in found


def test_captions_of_a_table_are_known_by_their_words(tmp_path):
    replicas.mjhq(tmp_path)
    entry = Config().entry("datasets", "mjhq-30k-evaluation")
    entry = entry.model_copy(update={"path": str(tmp_path), "expected_images": None})
    before = open_captioned(entry, "validation").captions_fingerprint
    table = tmp_path / "meta_data.json"
    table.write_text(table.read_text().replace("prompt of f00d", "prompt of fOOd"))  # of the same length
    assert open_captioned(entry, "validation").captions_fingerprint != before


def test_remarks_on_the_first_images_look_at_no_others(tmp_path):
    """A file that is not measured must not end a measurement."""
    save(tmp_path / "a.png", size=(8, 8))
    save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"not an image")
    assert images_in(tmp_path, 16).remarks(2) == ["1 of 2 images (50.0%) are smaller than the crop and were enlarged"]
    with pytest.raises(DatasetError, match=r"c\.png"):
        images_in(tmp_path, 16).remarks(3)


def test_images_of_formats_that_are_not_read_are_refused_by_name(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    dataset = images_in(tmp_path, 16)
    assert names(dataset) == ["a.png", "b.heic"]
    with pytest.raises(DatasetError, match=r"b\.heic: is HEIC, a format that is not read"):
        dataset[1]

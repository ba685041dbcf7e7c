# SPDX-License-Identifier: Apache-2.0
"""Crops of the bundled photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from dcae.data import photographs
from dcae.data.photographs import PHOTOGRAPHS, Photographs
from dcae.data.storage.files import DatasetError


def crops(split="train", resolution=64, seed=0, images=512):
    return Photographs(seed, split, images, resolution)


def test_every_picture_is_there_with_its_licence():
    for photograph in PHOTOGRAPHS:
        assert (photographs.folder() / photograph.file).is_file()
        assert photograph.licence and photograph.shows
    assert len({photograph.file for photograph in PHOTOGRAPHS}) == len(PHOTOGRAPHS)


def test_splits_share_no_picture():
    train, validation = set(crops("train").labels), set(crops("validation").labels)
    assert train and validation and not train & validation
    assert train | validation == set(range(len(PHOTOGRAPHS)))
    split_of = {photograph.file: photograph.split for photograph in PHOTOGRAPHS}
    assert split_of["motorcycle_left.png"] == split_of["motorcycle_right.png"]  # one scene from two places


def test_a_crop_depends_on_nothing_but_its_index():
    dataset, longer = crops(), crops(images=1000)
    first = [dataset[k] for k in range(30)]
    for index in reversed(range(30)):
        again = longer[index]
        assert torch.equal(first[index].image, again.image) and first[index][1:] == again[1:]
    assert not torch.equal(dataset.image(0), crops(seed=1).image(0))


def test_crops_of_one_picture_differ():
    dataset = crops()
    turn = len(dataset.labels)
    drawn = {dataset.pixels(index).tobytes() for index in range(0, 20 * turn, turn)}
    assert len(drawn) == 20


@pytest.mark.parametrize("resolution", [64, 128, 640])
def test_crops_have_their_size_and_grey_pictures_stay_grey(resolution):
    for split in ("train", "validation"):
        dataset = crops(split, resolution)
        for index in range(len(dataset.labels)):
            sample = dataset[index]
            assert sample.image.shape == (3, resolution, resolution)
            grey = Image.open(photographs.folder() / PHOTOGRAPHS[sample.label].file).mode == "L"
            assert grey == bool((sample.image[0] == sample.image[1]).all())
            assert sample.caption == f"part of {PHOTOGRAPHS[sample.label].shows}"


def test_crops_come_at_many_scales():
    """A crop's sharpness at 64 px spreads widely when crops range from single pixels to the whole picture."""
    dataset = crops()
    label = dataset.labels.index(next(k for k, p in enumerate(PHOTOGRAPHS) if p.file == "brick.png"))
    sharp = [abs(np.diff(dataset.pixels(k)[0].astype(float))).mean() for k in range(label, 400, len(dataset.labels))]
    assert max(sharp) > 1.5 * min(sharp)


def test_fingerprint_follows_what_decides_the_crops():
    prints = {
        crops().fingerprint,
        crops("validation").fingerprint,
        crops(seed=1).fingerprint,
        crops(images=9).fingerprint,
    }
    assert len(prints | {crops(resolution=65).fingerprint}) == 5
    assert crops().fingerprint == crops().fingerprint


def test_a_missing_picture_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "folder", lambda: tmp_path)
    with pytest.raises(DatasetError, match=r"astronaut\.png: missing; reinstall scikit-image"):
        crops()


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "astronaut.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"astronaut\.png: cannot be read"):
        photographs.decoded(tmp_path / "astronaut.png")

# SPDX-License-Identifier: Apache-2.0
"""The check of a dataset finds what is unusual in it, and its manifest tells two copies apart."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from dcae.benchmark.entries import FolderEntry, MJHQEntry
from dcae.data import image_sizes
from dcae.data.checking import check_dataset, write_manifest
from dcae.data.images import Images
from dcae.data.layouts.index import index_split
from dcae.data.storage.files import DatasetError
from tests.data import replicas


def entry(path, **fields):
    return FolderEntry(kind="folder", name="mine", path=str(path), **fields)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.new("RGB", (30, 20), "red"), "JPEG", exif=exif)


UNUSUAL = {
    "alpha.png": saved(Image.new("RGBA", (30, 30), (1, 2, 3, 255))),
    "animated.webp": saved(Image.new("RGB", (8, 8), "red"), "WEBP", save_all=True,
                           append_images=[Image.new("RGB", (8, 8), "blue")]),
    "cmyk.jpg": replicas.encoded("cmyk", (30, 30), mode="CMYK"),
    "deep.png": saved(Image.fromarray(np.full((9, 9), 40000, np.uint16))),
    "empty.jpg": b"",
    "grey.jpg": replicas.encoded("grey", (40, 40), mode="L"),
    "half.jpg": replicas.encoded("half", (40, 40))[:300],
    "palette.png": saved(Image.new("RGB", (16, 17), "red").quantize(4)),
    "plain.jpg": replicas.encoded("plain", (50, 15)),
    "rotated.jpg": rotated(),
    "transparent.png": saved(Image.new("RGBA", (30, 30), (1, 2, 3, 4))),
    "zeroed.jpg": replicas.encoded("zeroed", (40, 40))[:-100] + bytes(100),
}  # fmt: skip


@pytest.fixture
def unusual(tmp_path):
    for name, data in UNUSUAL.items():
        replicas.write(tmp_path / "train" / name, data)
    replicas.write(tmp_path / "validation" / "copy.jpg", UNUSUAL["plain.jpg"])
    replicas.write(tmp_path / "validation" / "other.jpg", replicas.encoded("other"))
    return tmp_path


def test_everything_unusual_is_found(unusual):
    report, _ = check_dataset(entry(unusual), [16, 20])
    train = report.splits["train"]
    assert {name: kind.examples for name, kind in train.kinds.items()} == {
        "grey": ["grey.jpg"],
        "palette": ["palette.png"],
        "CMYK": ["cmyk.jpg"],
        "with an alpha channel": ["alpha.png", "transparent.png"],
        "more than 8 bits": ["deep.png"],
        "animated": ["animated.webp"],
        "JPEG without an end marker": ["zeroed.jpg"],
        "EXIF-rotated": ["rotated.jpg"],
    }
    assert train.smaller == {16: 3, 20: 4}, "of a file without a header no size is known"
    assert train.images == len(UNUSUAL) and train.bytes == sum(map(len, UNUSUAL.values()))
    unusable = [
        (message.split(": ")[0].split("/")[-1], message.split(": ")[1][:20]) for message in train.unusable.examples
    ]
    assert unusable == [
        ("animated.webp", "is an animation or h"),
        ("deep.png", "has more than 8 bits"),
        ("empty.jpg", "cannot be read as an"),
        ("half.jpg", "cannot be read as an"),
        ("transparent.png", "has transparent pixe"),
        ("zeroed.jpg", "is incomplete (a JPE"),
    ]
    assert report.in_both_splits.examples == ["copy.jpg"]
    assert not report.passed and report.splits["validation"].unusable.images == 0


def test_what_is_unusable_is_what_a_training_refuses(unusual):
    samples = index_split(entry(unusual), "train")
    _, manifest = check_dataset(entry(unusual), [16], ["train"])
    for index, row in enumerate(manifest.to_pylist()):
        try:
            Images(samples, 8)[index]
            refused = ""
        except DatasetError as error:
            refused = str(error)
        assert row["error"] == refused


def test_the_entrys_rule_for_transparency_counts(unusual):
    report, _ = check_dataset(entry(unusual, transparency="white"), [16], ["train"])
    assert not any("transparent" in message for message in report.splits["train"].unusable.examples)


def test_the_manifest_has_a_row_for_each_image(unusual, tmp_path):
    report, manifest = check_dataset(entry(unusual), [16])
    write_manifest(manifest, report, tmp_path / "new" / "mine.parquet")
    read = pyarrow.parquet.read_table(tmp_path / "new" / "mine.parquet")
    assert read.schema.metadata[b"fingerprint"].decode() == report.fingerprint
    rows = {(row["split"], row["path"]): row for row in read.to_pylist()}
    assert len(rows) == len(read) == len(UNUSUAL) + 2
    for name, data in UNUSUAL.items():
        row = rows["train", name]
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    plain = rows["train", "plain.jpg"]
    assert (plain["width"], plain["height"], plain["mode"], plain["error"]) == (50, 15, "RGB", "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.parquet"]


def test_several_processes_find_the_same(unusual):
    one = check_dataset(entry(unusual), [16])
    several = check_dataset(entry(unusual), [16], processes=2)
    assert one[0] == several[0] and one[1].equals(several[1])


def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path):
    for copy in ("one", "other"):
        for split in ("train", "validation"):
            replicas.write(tmp_path / copy / split / "a.jpg", replicas.encoded(split))
    one, other = (check_dataset(entry(tmp_path / copy), [16])[0] for copy in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    data = bytearray(replicas.encoded("train"))
    data[-3] ^= 1  # same name, same size
    replicas.write(tmp_path / "other" / "train" / "a.jpg", bytes(data))
    assert check_dataset(entry(tmp_path / "other"), [16])[0].fingerprint != one.fingerprint


def test_missing_images_fail_the_check_rather_than_end_it(tmp_path):
    for split in ("train", "validation"):
        replicas.write(tmp_path / split / "a.jpg", replicas.encoded(split))
    expecting = entry(tmp_path, expected_images={"train": 2, "validation": 1})
    report, _ = check_dataset(expecting, [16])
    assert (report.splits["train"].images, report.splits["train"].expected) == (1, 2)
    assert not report.passed
    assert check_dataset(expecting, [16], ["validation"])[0].passed


def test_images_are_counted_by_class(tmp_path):
    for name in ("cat/a", "cat/b", "dog/a"):
        replicas.write(tmp_path / "train" / f"{name}.jpg", replicas.encoded(name))
    report, _ = check_dataset(entry(tmp_path), [16], ["train"])
    assert report.splits["train"].classes == {"cat": 2, "dog": 1}


def test_a_data_set_that_is_only_evaluated_on_has_one_split(tmp_path):
    replicas.mjhq(tmp_path)
    whole = MJHQEntry(kind="mjhq-30k", name="mjhq", path=str(tmp_path), validation_per_category="all")
    report, _ = check_dataset(whole, [16])
    assert list(report.splits) == ["validation"] and report.passed


def test_sizes_that_a_check_has_seen_are_not_read_again(tmp_path, monkeypatch):
    replicas.write(tmp_path / "train" / "a.jpg", replicas.encoded("a", (30, 20)))
    check_dataset(entry(tmp_path), [16], ["train"])
    monkeypatch.setattr(image_sizes, "read_header", lambda *_: pytest.fail("read again"))
    assert image_sizes.image_sizes(index_split(entry(tmp_path), "train")).tolist() == [[30, 20]]


def test_progress_is_told_to_the_end(tmp_path):
    for number in range(70):
        replicas.write(tmp_path / "train" / f"{number:02}.jpg", replicas.encoded(str(number), (4, 4)))
    seen = []
    check_dataset(entry(tmp_path), [16], ["train"], progress=lambda *each: seen.append(each))
    assert seen == [("train", 64, 70), ("train", 70, 70)]


def test_what_checks_files_needs_no_torch():
    """Processes of their own start with it, and would take seconds to load torch."""
    program = "import sys, dcae.data.checking; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"

# SPDX-License-Identifier: Apache-2.0
"""Small replicas of the official layouts of datasets, with images that tell which they are."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

SYNSETS = {"n01440764": "tench", "n01514668": "cock", "n02105855": "Shetland sheepdog"}
# The devkit numbers classes in an order of its own; 1001 and on are groups of classes.
DEVKIT_NUMBERS = {"n02105855": 1, "n01440764": 2, "n01514668": 3}
TRAIN = {wnid: [f"{wnid}_{number}.JPEG" for number in (10026, 9, 204)] for wnid in SYNSETS}
VALIDATION = ["n01514668", "n02105855", "n01440764", "n02105855", "n01514668"]  # class of image 1, 2, …


def encoded(name: str, size: tuple[int, int] = (20, 16), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An image file whose content follows from its name."""
    rng = np.random.default_rng(list(name.encode()))
    low = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    low.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def validation_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


def imagenet_folders(root: Path, train: str = "train", flat: str | None = None) -> Path:
    """As torchvision has it; with ``flat``, validation images lie in that folder, without classes."""
    for wnid, names in TRAIN.items():
        for name in names:
            write(root / train / wnid / name, encoded(name))
    for number, wnid in enumerate(VALIDATION, start=1):
        name = validation_name(number)
        write(root / flat / name if flat else root / "val" / wnid / name, encoded(name))
    return root


def imagenet_kaggle(root: Path) -> Path:
    imagenet_folders(root, "ILSVRC/Data/CLS-LOC/train", flat="ILSVRC/Data/CLS-LOC/val")
    rows = [f"{validation_name(k)[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 \n" for k, wnid in enumerate(VALIDATION, start=1)]
    write(root / "LOC_val_solution.csv", "".join(["ImageId,PredictionString\n", *reversed(rows)]))
    return root


def imagenet_devkit(truth: list[int] | None = None) -> bytes:
    """The devkit's archive; ``meta.mat`` has the official fields, of which the number of children tells classes."""
    fields = (
        "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images"
    )  # fmt: skip
    rows = [(number, wnid, SYNSETS[wnid], "a gloss", 0, [], 0, 3) for wnid, number in DEVKIT_NUMBERS.items()]
    rows += [(1001, "n00001740", "entity", "a gloss", 3, [1, 2, 3], 1, 0)]
    synsets = np.array(rows, dtype=[(field, "O") for field in fields])
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets.reshape(-1, 1)})
    truth = truth or [DEVKIT_NUMBERS[wnid] for wnid in VALIDATION]
    folder = "ILSVRC2012_devkit_t12/data"
    members = {
        f"{folder}/meta.mat": meta.getvalue(),
        f"{folder}/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in truth).encode(),
    }
    return tar(members, "w:gz")


def imagenet_archives(root: Path) -> Path:
    inner = {f"{wnid}.tar": tar({name: encoded(name) for name in names}) for wnid, names in reversed(TRAIN.items())}
    names = [validation_name(number) for number in range(len(VALIDATION), 0, -1)]
    write(root / "ILSVRC2012_img_train.tar", tar(inner))
    write(root / "ILSVRC2012_img_val.tar", tar({name: encoded(name) for name in names}))
    write(root / "ILSVRC2012_devkit_t12.tar.gz", imagenet_devkit())
    return root


IMAGENET = {"folders": imagenet_folders, "kaggle": imagenet_kaggle, "archives": imagenet_archives}

FFHQ_NUMBERS = (0, 1, 999, 1000, 59_999, 60_000, 69_999)


def ffhq_images() -> dict[str, bytes]:
    return {
        f"{number // 1000 * 1000:05}/{number:05}.png": encoded(str(number), (32, 32), "PNG") for number in FFHQ_NUMBERS
    }


def ffhq(root: Path, metadata: bool = True, validation: tuple[int, ...] = (60_000, 69_999)) -> Path:
    for name, data in ffhq_images().items():
        write(root / "images1024x1024" / name, data)
    write(root / "images1024x1024" / "LICENSE.txt", "CC BY-NC-SA 4.0")
    if metadata:
        write(root / "ffhq-dataset-v2.json", json.dumps(ffhq_metadata(validation)))
    return root


def ffhq_metadata(validation: tuple[int, ...]) -> dict:
    return {
        str(number): {
            "category": "validation" if number in validation else "training",
            "image": {"file_path": f"images1024x1024/{number // 1000 * 1000:05}/{number:05}.png"},
        }
        for number in FFHQ_NUMBERS
    }


def mapillary_vistas(version: str) -> dict[str, bytes]:
    """Members of the zip file of a version: the images, and something of its annotations and of the test images."""
    images = {
        f"{split}/images/{name}.jpg": encoded(name)
        for split, names in {"training": "cab", "validation": "ed", "testing": "f"}.items()
        for name in names
    }
    labels = encoded("label", kind="PNG")
    if version == "1.2":
        return images | {"training/labels/a.png": labels, "config.json": b"{}", "README": b"1.2"}
    return images | {
        "training/v2.0/labels/a.png": labels,
        "training/v1.2/labels/a.png": labels,
        "config_v2.0.json": b"{}",
        "demo.py": b"",
    }


MJHQ = {
    "animals": ["07bc5cc1e0ad4b5a", "1f3a", "aa10", "f00d"],
    "art": ["3c55", "4d66", "5e77", "6f88"],
    "vehicles": ["0b0b", "1c1c", "2d2d", "3e3e"],
}


def mjhq_images(prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{name}/{each}.jpg": encoded(each) for name, ids in MJHQ.items() for each in ids}


def mjhq_metadata() -> dict:
    return {each: {"category": name, "prompt": f"prompt of {each}"} for name, ids in MJHQ.items() for each in ids}


def mjhq(root: Path) -> Path:
    zipped(root / "mjhq30k_imgs.zip", mjhq_images(), zipfile.ZIP_DEFLATED)
    write(root / "meta_data.json", json.dumps(mjhq_metadata()))
    return root


def sa_1b_tar(ids: range) -> bytes:
    """Members begin with ./ in the published files."""
    members = {}
    for each in ids:
        members |= {f"./sa_{each}.jpg": encoded(str(each)), f"./sa_{each}.json": b"{}"}
    return tar(members)


def shard(numbers: range, classes: int = 3) -> bytes:
    members = {}
    for number in numbers:
        key = f"{number:06}"
        members |= {f"{key}.jpg": encoded(key), f"{key}.cls": b"%d" % (number % classes), f"{key}.json": b"{}"}
        if number % 2:
            members[f"{key}.txt"] = f"caption of {key}\n".encode()
    return tar(members)

# SPDX-License-Identifier: Apache-2.0
"""Published numbers, read from ``config/published``: the authors' own, and reconstruction as published by others.

The authors' are in ``{table,figure,text,readme}*.csv``, one row per printed number. Columns: ``table`` ("1" to "5",
"figure 2a", "section 3.2", or "readme", that of the authors' code), ``dataset``, ``resolution`` (pixels),
``diffusion``, ``autoencoder``, ``patch_size``, ``tokens``, ``latent_shape`` (height x width x channels), ``column``
(name of the value in this project's records), ``value`` (as printed), ``printed_precision`` (unit of the last printed
digit), ``protocol`` (after the name of the entry here that is the same, if there is one), ``source`` and ``note``
(repairs of the printed layout, disagreements within the paper).

Autoencoders are named as in the paper. Table 2's baselines carry their channels too (SD-VAE-f32c32), since they are not
the public models that Tables 1 and 3 call SD-VAE-f32. ``tokens`` of Tables 3 and 5 is computed, (resolution / (f p))^2.
A number that the paper prints once for two datasets ("FFHQ & MJHQ") is that of each. † marks a diffusion model
that was trained for four times as many steps.

Reconstruction as others have published it is in ``reconstruction.csv``, one line per source. Columns: ``autoencoder``
(the entry with the same weights; empty if there is none, or if the source does not name the weights),
``printed_name``, ``dataset``, ``split``, ``resolution`` (pixels), ``images`` (their number, if stated), the metrics of
``RECONSTRUCTION_METRICS`` as printed, ``protocol`` as far as it is known, ``source`` and ``note``. Each source has its
own protocol: the same public weights get an rFID from 0.61 to 0.90 and a PSNR from 31.1 to 32.9 dB. These numbers are
shown apart from measured ones and never compared with them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

Parsed = TypeVar("Parsed")

PUBLISHED_FOLDER = Path(__file__).resolve().parents[1] / "config" / "published"
KINDS = ("table", "figure", "text", "readme")
# The autoencoders of Figure 5, by the parameters that see the GAN loss.
GAN_VARIANTS = {
    "none": "f32c32 without GAN",
    "all": "f32c32 with full-model GAN",
    "decoder-head": "f32c32 with decoder-head GAN",
}
RECONSTRUCTION_FILE = PUBLISHED_FOLDER / "reconstruction.csv"
RECONSTRUCTION_METRICS = ("rfid", "psnr", "ssim", "lpips", "psim", "rfdd")
RECONSTRUCTION_COLUMNS = [
    "autoencoder", "printed_name", "dataset", "split", "resolution", "images", *RECONSTRUCTION_METRICS, "protocol",
    "source", "note",
]  # fmt: skip
RECONSTRUCTION_REQUIRED = ("printed_name", "dataset", "split", "resolution", "protocol", "source")


@dataclass(frozen=True)
class PublishedValue:
    """One printed number. Fields that a table does not have are ``None``."""

    table: str
    dataset: str | None
    resolution: int | None
    diffusion: str | None
    autoencoder: str
    patch_size: int | None
    tokens: int | None
    latent_shape: str | None
    column: str
    value: float
    printed_precision: float
    protocol: str | None
    source: str
    note: str | None

    @property
    def decimals(self) -> int:
        """Number of printed digits after the point."""
        return len(f"{self.printed_precision:f}".rstrip("0").partition(".")[2])

    @property
    def second_hand(self) -> bool:
        """True if the number is not known from the paper itself."""
        return "second-hand" in self.source

    @property
    def spatial_compression(self) -> int | None:
        """f, from the autoencoder's name."""
        found = re.search(r"f(\d+)", self.autoencoder)
        return int(found[1]) if found else None

    def measured_alike(self, protocol: str, images: int | None) -> bool:
        """Return whether a number of a protocol here and of so many images was measured as this one."""
        name, named, text = (self.protocol or "").partition(": ")
        counts = {int(count.replace(",", "")) for count in re.findall(r"\d+,\d{3}", text)}
        return bool(named) and name == protocol and counts == {images}

    @property
    def row(self) -> tuple:
        """Key of the table row that the number is printed in."""
        return self.table, self.dataset, self.resolution, self.diffusion, self.autoencoder, self.patch_size

    @property
    def key(self) -> tuple:
        """Key of the number: its row and its column."""
        return *self.row, self.column


class Published:
    """The authors' numbers, by row and column.

    Raises:
        ValueError: two numbers for one key.
    """

    def __init__(self, values: Iterable[PublishedValue]):
        self._by_key: dict[tuple, PublishedValue] = {}
        for value in values:
            if value.key in self._by_key:
                raise ValueError(f"two published values for {value.key}; keep one")
            self._by_key[value.key] = value

    def __iter__(self) -> Iterator[PublishedValue]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def find(
        self,
        table: int | str,
        column: str,
        *,
        dataset: str | None,
        resolution: int | None,
        autoencoder: str | None,
        diffusion: str | None = None,
        patch_size: int | None = None,
    ) -> PublishedValue | None:
        """Return the number in one cell of a table, or ``None`` if the paper prints none there."""
        return self._by_key.get((str(table), dataset, resolution, diffusion, autoencoder, patch_size, column))

    def peak_of_phase(self, trains: Literal["full", "middle"]) -> float:
        """Return the peak memory in GB of training all layers, or those of phase 2, at 1024 px (section 3.2)."""
        column = f"{trains}_training_peak_gb"
        return self.find("section 3.2", column, dataset=None, resolution=1024, autoencoder="DC-AE").value

    def rows(self, table: int | str) -> list[PublishedValue]:
        """Return one value of each row of a table, in printed order."""
        rows: dict[tuple, PublishedValue] = {}
        for value in self:
            if value.table == str(table):
                rows.setdefault(value.row, value)
        return list(rows.values())


def read_published(folder: Path = PUBLISHED_FOLDER) -> Published:
    """Read the numbers in the CSV files of a folder whose names begin with one of ``KINDS``.

    Raises:
        ValueError: naming the file and the line of a row that cannot be read.
        FileNotFoundError: if the folder holds no CSV file.
    """
    files = sorted(path for path in Path(folder).glob("*.csv") if path.name.startswith(KINDS))
    if not files:
        raise FileNotFoundError(
            f"no published values: expected table*.csv, figure*.csv, text*.csv or readme*.csv in {folder}"
        )
    return Published(value for path in files for value in _read_file(path))


def _read_file(path: Path) -> Iterator[PublishedValue]:
    columns = [field.name for field in fields(PublishedValue)]
    yield from (value for _, values in _lines(path, columns, _values) for value in values)


def _values(line: dict[str, str]) -> list[PublishedValue]:
    """The number of a line, for each of its datasets."""
    given = _given(line, ("table", "autoencoder", "column", "value", "printed_precision", "source"))
    whole = {name: int(given[name]) if given[name] else None for name in ("resolution", "patch_size", "tokens")}
    number = {name: float(given[name]) for name in ("value", "printed_precision")}
    datasets = (given["dataset"] or "").split(" & ")
    return [PublishedValue(**{**given, **whole, **number, "dataset": dataset or None}) for dataset in datasets]


def _lines(path: Path, columns: list[str], parse: Callable[[dict[str, str]], Parsed]) -> Iterator[tuple[int, Parsed]]:
    """Number and content of each line of a CSV file; raises ``ValueError`` naming file and line."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if reader.fieldnames != columns:
            raise ValueError(f"{path}: expected the columns {columns}, got {reader.fieldnames}")
        for line in reader:
            try:
                yield reader.line_num, parse(line)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _given(line: dict[str, str], required: Iterable[str]) -> dict[str, str | None]:
    given = {name: text or None for name, text in line.items()}
    for name in required:
        if given[name] is None:
            raise ValueError(f"{name} is empty")
    return given


# --- reconstruction as published by others ---


@dataclass(frozen=True)
class PublishedReconstruction:
    """The numbers of one source for one autoencoder on one dataset; ``values``: metric to the number as printed."""

    autoencoder: str | None
    printed_name: str
    dataset: str
    split: str
    resolution: int
    images: int | None
    values: dict[str, str]
    protocol: str
    source: str
    note: str | None


def read_published_reconstruction(path: Path = RECONSTRUCTION_FILE) -> list[PublishedReconstruction]:
    """Read every line of the file, in its order.

    Raises:
        ValueError: naming the file and the line that cannot be read.
    """
    seen: dict[tuple, int] = {}
    rows = []
    for number, row in _lines(path, RECONSTRUCTION_COLUMNS, _reconstruction):
        key = row.printed_name, row.dataset, row.split, row.resolution, row.images, row.source
        if key in seen:
            raise ValueError(f"{path}, line {number}: line {seen[key]} is of the same source and autoencoder")
        seen[key] = number
        rows.append(row)
    return rows


def has_published_elsewhere(autoencoders: Iterable[str]) -> bool:
    """Return whether others have published numbers for one of these entries."""
    return bool(set(autoencoders) & {row.autoencoder for row in read_published_reconstruction()})


def _reconstruction(line: dict[str, str]) -> PublishedReconstruction:
    given = _given(line, RECONSTRUCTION_REQUIRED)
    values = {name: text for name in RECONSTRUCTION_METRICS if (text := given.pop(name)) is not None}
    if not values:
        raise ValueError(f"no number: give at least one of {', '.join(RECONSTRUCTION_METRICS)}")
    for text in values.values():
        float(text)
    images = int(given["images"]) if given["images"] else None
    return PublishedReconstruction(**{**given, "resolution": int(given["resolution"]), "images": images}, values=values)

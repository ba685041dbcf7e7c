# SPDX-License-Identifier: Apache-2.0
"""The authors' printed numbers, read from ``config/published/{table,figure,readme}*.csv``: one row per printed cell.

Columns of the files: ``table`` ("1" to "5", "figure 2a", or "readme", that of the authors' code), ``dataset``,
``resolution`` (pixels), ``diffusion``, ``autoencoder``, ``patch_size``, ``tokens``, ``latent_shape`` (height x width x
channels), ``column`` (the name of the value in this project's records), ``value`` (as printed), ``printed_precision``
(unit of the last printed digit), ``protocol``, ``source`` and ``note`` (repairs of the printed layout, disagreements
within the paper).

Autoencoders are named as in the paper. Table 2's baselines carry their channels too (SD-VAE-f32c32), since they are not
the public models that Tables 1 and 3 call SD-VAE-f32. ``tokens`` of Tables 3 and 5 is computed, (resolution / (f p))^2.
A number that the paper prints once for two data sets ("FFHQ & MJHQ") is that of each. † stands for a diffusion model
that was trained for four times as many steps.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

PUBLISHED_FOLDER = Path(__file__).resolve().parents[1] / "config" / "published"
KINDS = ("table", "figure", "readme")


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
        """Digits behind the point as printed."""
        return len(f"{self.printed_precision:f}".rstrip("0").partition(".")[2])

    @property
    def spatial_compression(self) -> int | None:
        """f, as the autoencoder's name has it."""
        found = re.search(r"f(\d+)", self.autoencoder)
        return int(found[1]) if found else None

    @property
    def row(self) -> tuple:
        """What names the table row that the number is printed in."""
        return self.table, self.dataset, self.resolution, self.diffusion, self.autoencoder, self.patch_size

    @property
    def key(self) -> tuple:
        """What names the number: its row and its column."""
        return *self.row, self.column


class Published:
    """The published numbers, found by what names them."""

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
        """The number in one cell of a table, or ``None`` if the paper prints none there."""
        return self._by_key.get((str(table), dataset, resolution, diffusion, autoencoder, patch_size, column))

    def rows(self, table: int | str) -> list[PublishedValue]:
        """One value of each row of a table, in printed order."""
        rows: dict[tuple, PublishedValue] = {}
        for value in self:
            if value.table == str(table):
                rows.setdefault(value.row, value)
        return list(rows.values())


def read_published(folder: Path = PUBLISHED_FOLDER) -> Published:
    """Every number in the CSV files of a folder whose names begin with ``table``, ``figure`` or ``readme``.

    Raises:
        ValueError: naming the file and the line of a row that cannot be read.
        FileNotFoundError: if the folder holds no CSV file.
    """
    files = sorted(path for path in Path(folder).glob("*.csv") if path.name.startswith(KINDS))
    if not files:
        raise FileNotFoundError(f"no published values: expected table*.csv, figure*.csv or readme*.csv in {folder}")
    return Published(value for path in files for value in _read_file(path))


def _read_file(path: Path) -> Iterator[PublishedValue]:
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        expected = [field.name for field in fields(PublishedValue)]
        if reader.fieldnames != expected:
            raise ValueError(f"{path}: expected the columns {expected}, got {reader.fieldnames}")
        for row in reader:
            try:
                for dataset in row["dataset"].split(" & "):
                    yield _value({**row, "dataset": dataset})
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _value(row: dict[str, str]) -> PublishedValue:
    given = {name: text or None for name, text in row.items()}
    for name in ("table", "autoencoder", "column", "value", "printed_precision", "source"):
        if given[name] is None:
            raise ValueError(f"{name} is empty")
    whole = {name: int(given[name]) if given[name] else None for name in ("resolution", "patch_size", "tokens")}
    number = {name: float(given[name]) for name in ("value", "printed_precision")}
    return PublishedValue(**{**given, **whole, **number})

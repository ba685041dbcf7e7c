# SPDX-License-Identifier: Apache-2.0
"""The whole comparison of autoencoders on a folder of pictures, and its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dcae.autoencoders.loading import load
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields, Protocol
from dcae.benchmark.record import write_atomically
from dcae.files import replacing, sha256
from dcae.weights.catalogue import WeightsError
from evaluation.comparison.measuring import Measured, Metrics
from evaluation.comparison.page import Page, side_by_side, to_page
from evaluation.comparison.pictures import Pictures, find_pictures
from evaluation.comparison.tables import main_table, paired_table, per_image_csv
from evaluation.comparison.worst import WorstImage, ranking_metric, worst_images
from evaluation.tables.formats import Table, write_table

TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "rfid": "rFID"}
PAGE = "comparison.html"


class CompareError(ValueError):
    """There is nothing to compare."""


@dataclass(frozen=True)
class Contender:
    """An autoencoder to compare: its entry, and the folder of its weights if it was trained here."""

    entry: AutoencoderFields
    weights: Path | None = None

    @property
    def name(self) -> str:
        return self.entry.name


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Attributes:
        measured: autoencoder to its numbers.
        warnings: everything that was left out, and why.
        left_out: autoencoders that could not be measured, and why.
    """

    pictures: Pictures
    protocol: Protocol
    measured: dict[str, Measured]
    worst: dict[str, list[WorstImage]]
    warnings: list[str]
    left_out: dict[str, str]
    shapes: dict[str, str]
    origins: dict[str, str]


def compare(
    folder: Path,
    contenders: list[Contender],
    protocol: Protocol,
    resolution: int,
    config: Config,
    device: str | torch.device = "cpu",
    batch_size: int = 4,
    worst: int = 3,
    tell: Callable[[str], None] = print,
) -> Comparison:
    """Measure autoencoders on every picture in a folder.

    Args:
        folder: with pictures, in sub-folders or not, or a zip file.
        contenders: at least one; none is loaded before the one before it is done.
        protocol: of kind quality; what of it cannot be had is left out and told.
        resolution: side of the ADM crop in pixels.
        config: where the entries below ``space-to-channel`` are found.
        worst: how many of an autoencoder's worst images are shown.
        tell: what is said while it runs.

    Raises:
        CompareError: no autoencoder could be measured.
        DatasetError: no pictures.
    """
    pictures = find_pictures(folder, resolution)
    metrics = Metrics(protocol, pictures, device)
    warnings = [*_about_pictures(pictures), *_about_metrics(metrics)]
    for line in warnings:
        tell(line)
    by_name = {each.name: each for each in contenders}
    origins: dict[str, str] = {}

    def loaded(name: str) -> tuple[nn.Module, str | None]:
        autoencoder = _load(by_name[name], resolution, config, device)
        origins[name] = _origin(by_name[name], autoencoder)
        return autoencoder, by_name[name].entry.padding

    measured: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    for name in by_name:
        try:
            measured[name] = metrics.measure(*loaded(name), batch_size)
        except torch.OutOfMemoryError:
            left_out[name] = f"needs more memory than {device} has for {batch_size} pictures at a time"
            tell(f"Left out: autoencoder {name}: {left_out[name]}")
        except (ConfigError, WeightsError, ValueError) as error:
            left_out[name] = str(error).removeprefix(f"autoencoder {name}: ")
            tell(f"Left out: autoencoder {name}: {left_out[name]}")
        else:
            tell(f"measured {name} on {len(pictures)} pictures")
    if not measured:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in left_out.items())
        raise CompareError(f"no autoencoder could be measured:{reasons}")
    shown = worst_images(metrics, measured, loaded, worst, batch_size) if worst else {}
    warnings += [f"Left out: autoencoder {name}: {reason}" for name, reason in left_out.items()]
    shapes = {name: _latent_shape(by_name[name].entry, resolution) for name in measured}
    return Comparison(pictures, protocol, measured, shown, warnings, left_out, shapes, origins)


def _load(contender: Contender, resolution: int, config: Config, device: str | torch.device) -> nn.Module:
    entry = contender.entry
    if entry.resolutions and resolution not in entry.resolutions:
        raise ConfigError(f"takes images of {', '.join(map(str, entry.resolutions))} px alone, not {resolution}")
    if resolution % entry.spatial_compression and not entry.padding:
        raise ConfigError(f"{resolution} px is no multiple of its spatial compression {entry.spatial_compression}")
    if _needs_training(entry, config) and contender.weights is None:
        raise ConfigError(f"is trained here: give its weights as {entry.name}=FOLDER (results/…/autoencoders/…)")
    if getattr(entry, "posterior", "mode") == "sample":
        entry = entry.model_copy(update={"posterior": "mode"})  # metrics are of the mode
    return load(entry, weights=contender.weights, config=config, device=device)


def _needs_training(entry: AutoencoderFields, config: Config) -> bool:
    if entry.kind == "space-to-channel":
        return _needs_training(config.entry("autoencoders", entry.autoencoder), config)
    return entry.kind != "python" and not entry.pretrained


def _latent_shape(entry: AutoencoderFields, resolution: int) -> str:
    side = -(-resolution // entry.spatial_compression)
    return f"{side}x{side}x{entry.latent_channels}"


def _origin(contender: Contender, autoencoder: nn.Module) -> str:
    """Where the weights came from, for the page."""
    file = getattr(autoencoder, "released_file", None)
    if contender.weights:
        return f"{contender.name}: trained here, {contender.weights}"
    if file is None:
        return f"{contender.name}: {contender.entry.description or contender.entry.kind}"
    from dcae.weights.hub import hub_commit

    content = sha256(file)
    commit = hub_commit(file, content)
    facts = {"licence": contender.entry.licence, "commit": commit, "sha256": content}
    told = "".join(f", {name} {value}" for name, value in facts.items() if value)
    return f"{contender.name}: {contender.entry.source or file}{told}"


def _about_pictures(pictures: Pictures) -> list[str]:
    found = [f"Left out: picture {name}: {reason}" for name, reason in pictures.left_out.items()]
    if pictures.enlarged:
        listed = ", ".join(pictures.enlarged[:5]) + (" and others" if len(pictures.enlarged) > 5 else "")
        found.append(
            f"Enlarged: {len(pictures.enlarged)} of {len(pictures)} pictures, which are smaller than "
            f"{pictures.resolution} px and easier to reconstruct for it: {listed}"
        )
    return found


def _about_metrics(metrics: Metrics) -> list[str]:
    return [
        f"Left out: {f'metric {TITLES[name]}' if name in TITLES else f'pictures with {name}'}: {reason}"
        for name, reason in metrics.left_out.items()
    ]


# --- files ----------------------------------------------------------------------------------------------------------


def write_comparison(comparison: Comparison, output: Path, footer: Mapping[str, str]) -> list[Path]:
    """Write the page, the tables, the values of every image, and the crops; each file appears whole.

    Args:
        comparison: from ``compare``.
        output: folder, made if need be.
        footer: further facts about the run, such as versions and device.

    Returns:
        The page, then everything else.
    """
    table, paired = comparison_tables(comparison)
    lines = [
        f"protocol {comparison.protocol.name}: {comparison.protocol.description}",
        f"images: ADM centre crop to {comparison.pictures.resolution} px, both rounded to 8 bits before any metric",
        *comparison.origins.values(),
        *(f"{name}: {value}" for name, value in footer.items()),
    ]
    page = Page(
        title=table.title,
        introduction=table.caption,
        warnings=comparison.warnings,
        tables=[_renamed(table, "Reconstruction"), paired],
        worst=comparison.worst,
        measured=comparison.measured,
        names=comparison.pictures.names,
        ranking=ranking_metric(comparison.measured),
        footer=lines,
    )
    written = [output / PAGE]
    write_atomically(written[0], to_page(page))
    for name, each in {"reconstruction": table, "differences": paired}.items():
        written += write_table(each, output, name, ("csv", "md"))
    written.append(output / "per_image.csv")
    write_atomically(written[-1], per_image_csv(comparison.measured, comparison.pictures.names))
    for name, images in comparison.worst.items():
        for rank, image in enumerate(images, 1):
            written.append(output / "worst" / name / f"{rank}.png")
            _write_bytes(written[-1], side_by_side(image))
    return written


def comparison_tables(comparison: Comparison) -> tuple[Table, Table]:
    """The means, and the differences image by image."""
    count = len(comparison.pictures)
    title = f"{len(comparison.measured)} autoencoders on {count} picture{'s' if count > 1 else ''}"
    caption = (
        f"Pictures of {comparison.pictures.folder.name or comparison.pictures.folder}, cropped to "
        f"{comparison.pictures.resolution} px. Means over the images ± one standard error; bold: better than every "
        "other that is not perfect, image by image (95 % interval of the difference)."
    )
    if comparison.protocol.random_features:
        caption += " Random features: networks without trained weights; such numbers mean nothing outside their column."
    return main_table(comparison.measured, comparison.shapes, title, caption), paired_table(comparison.measured)


def _renamed(table: Table, title: str) -> Table:
    return Table(title, "", table.columns, table.sections, table.notes)


def _write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)

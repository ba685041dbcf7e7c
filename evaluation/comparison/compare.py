# SPDX-License-Identifier: Apache-2.0
"""Comparison of autoencoders on a folder of pictures, and its files."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from dcae.autoencoders.folder import entry_scale
from dcae.autoencoders.loading import load, without_scale
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields, DiffusersEntry, Protocol
from dcae.benchmark.record import Record, write_atomically
from dcae.files import sha256
from dcae.weights.catalogue import WeightsError
from evaluation.comparison.gallery import make_gallery
from evaluation.comparison.measurable import measurable
from evaluation.comparison.pictures import Pictures, find_pictures
from evaluation.comparison.record import record_of
from evaluation.comparison.tables import main_table, paired_table, per_image_csv
from evaluation.features.reference import read_detections, write_reference
from evaluation.metrics.registry import FID, IMAGE_METRICS, QualityMetric, image_metrics
from evaluation.page.page import render
from evaluation.page.pictures import Gallery
from evaluation.page.scatter import scatter_data
from evaluation.page.sources import Sources
from evaluation.published import Published
from evaluation.quality.distances import subset_members
from evaluation.quality.reconstruction import Reconstruction, evaluate_reconstruction
from evaluation.tables.formats import Table, write_table
from evaluation.tables.rows import Result, TableCell

PAGE = "comparison.html"
MOST_SHOWN = 200


class CompareError(ValueError):
    """No autoencoder could be measured."""


@dataclass(frozen=True)
class Contender:
    """An autoencoder to compare: its entry, and the folder of its weights if they were trained here."""

    entry: AutoencoderFields
    weights: Path | None = None

    @property
    def name(self) -> str:
        return self.entry.name


@dataclass(frozen=True)
class Comparison:
    """Everything that the files of a comparison show.

    Attributes:
        pictures: that the autoencoders were measured on.
        protocol: without the subsets that were left out.
        metrics: that were measured.
        measured: by autoencoder.
        results: their records, with their cells.
        gallery: pictures to show; ``None`` if none was asked for.
        warnings: everything that was left out, with the reason.
        left_out: autoencoders that could not be measured, with the reason.
        origins: source of the weights of each autoencoder.
    """

    pictures: Pictures
    protocol: Protocol
    metrics: list[QualityMetric]
    measured: dict[str, Reconstruction]
    results: list[Result]
    gallery: Gallery | None
    warnings: list[str]
    left_out: dict[str, str]
    origins: dict[str, str]


def compare(
    folder: Path,
    contenders: list[Contender],
    protocol: Protocol,
    resolution: int,
    config: Config,
    device: str | torch.device = "cpu",
    batch_size: int = 4,
    shown: int = MOST_SHOWN,
    tell: Callable[[str], None] = print,
    metrics: Sequence[QualityMetric] = (FID, *IMAGE_METRICS),
    command: str = "",
) -> Comparison:
    """Measure autoencoders on every picture in a folder.

    Args:
        folder: of pictures, in sub-folders or not, or a zip file.
        contenders: at least one; only one is in memory at a time.
        protocol: of kind quality; metrics and subsets whose weights are missing are left out and reported.
        resolution: side of the ADM crop in pixels.
        config: where the entries below ``space-to-channel`` are found.
        device: where everything runs.
        batch_size: images at a time.
        shown: number of pictures to show at most, the worst first; they are reconstructed once more.
        tell: called with each line of progress.
        metrics: to measure.
        command: for the records.

    Raises:
        CompareError: no autoencoder could be measured.
        DatasetError: no pictures.
    """
    pictures = find_pictures(folder, resolution)
    wanted, asked = protocol, metrics
    protocol, metrics, warnings = measurable(protocol, metrics, pictures)
    by_name = {each.name: each for each in contenders}
    origins: dict[str, str] = {}

    def loaded(name: str) -> tuple[nn.Module, str | None]:
        autoencoder = _load(by_name[name], resolution, config, device)
        origins[name] = _origin(by_name[name], autoencoder)
        return autoencoder, by_name[name].entry.padding

    measured: dict[str, Reconstruction] = {}
    results: list[Result] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference.safetensors"
        write_reference(pictures, len(pictures), protocol, reference, 16, device=device, metrics=metrics)
        subsets = subset_members(read_detections(reference, protocol), protocol).items()
        reasons = [f"Left out: pictures with {name}: {reason}" for name, reason in subsets if isinstance(reason, str)]
        warnings = [*_about_pictures(pictures), *warnings, *reasons]
        for line in warnings:
            tell(line)

        def measure(name: str) -> None:
            started = time.monotonic()
            autoencoder, padding = loaded(name)
            # A shard per batch: its random numbers are a function of its first image, as in make_gallery.
            found = evaluate_reconstruction(
                autoencoder, pictures, protocol, reference, batch_size, device=device, shown=0, padding=padding,
                shard_size=batch_size, metrics=metrics,
            )  # fmt: skip
            record = record_of(
                found, autoencoder, name, by_name[name].entry, by_name[name].weights, pictures, wanted, asked, device,
                command=command, started=started,
            )  # fmt: skip
            measured[name] = found
            results.append(Result(_cell(by_name[name], record), record))

        for name in by_name:
            try:
                measure(name)
            except torch.OutOfMemoryError:
                left_out[name] = f"needs more memory than {device} has for {batch_size} pictures at a time"
                tell(f"Left out: autoencoder {name}: {left_out[name]}")
            except (Exception, SystemExit) as error:  # foreign code may raise or end in any way
                left_out[name] = _reason(error).removeprefix(f"autoencoder {name}: ")
                tell(f"Left out: autoencoder {name}: {left_out[name]}")
            else:
                tell(f"measured {name} on {len(pictures)} pictures")
    if not measured:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in left_out.items())
        raise CompareError(f"no autoencoder could be measured:{reasons}")
    gallery = None
    if shown:
        told = image_metrics(metrics)
        gallery = make_gallery(pictures, protocol, measured, told, loaded, shown, batch_size, device)
    warnings += [f"Left out: autoencoder {name}: {reason}" for name, reason in left_out.items()]
    warnings += [f"{name}: {line}" for name, each in measured.items() for line in each.remarks]
    return Comparison(pictures, protocol, metrics, measured, results, gallery, warnings, left_out, origins)


def _reason(error: BaseException) -> str:
    """Return the message of an error; of one that is not this project's own, with its type."""
    if isinstance(error, ConfigError | WeightsError | ValueError):
        return str(error)
    traceback.print_exception(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


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
    if isinstance(entry, DiffusersEntry) and entry_scale(entry) is None:  # normalised latents are not measured
        entry = without_scale(entry)
    return load(entry, weights=contender.weights, config=config, device=device)


def _needs_training(entry: AutoencoderFields, config: Config) -> bool:
    if entry.kind == "space-to-channel":
        return _needs_training(config.entry("autoencoders", entry.autoencoder), config)
    return entry.kind != "python" and not entry.pretrained


def _cell(contender: Contender, record: Record) -> TableCell:
    entry = contender.entry
    return TableCell(
        dataset=record.cell["dataset"],
        resolution=record.cell["resolution"],
        autoencoder=entry.name,
        autoencoder_kind=entry.kind,
        autoencoder_paper_name=entry.paper_name,
        spatial_compression=entry.spatial_compression,
        latent_channels=entry.latent_channels,
        group="controls" if record.number_class == "control" else "autoencoders",
    )


def _origin(contender: Contender, autoencoder: nn.Module) -> str:
    """Return the source of the weights, for the page."""
    file = getattr(autoencoder, "released_file", None)
    if contender.weights:
        return f"trained here, {contender.weights}"
    if file is None:
        return contender.entry.description or contender.entry.kind
    from dcae.weights.hub import hub_commit

    content = sha256(file)
    commit = hub_commit(file, content)
    facts = {"licence": contender.entry.licence, "commit": commit, "sha256": content}
    told = "".join(f", {name} {value}" for name, value in facts.items() if value)
    return f"{contender.entry.source or file}{told}"


def _about_pictures(pictures: Pictures) -> list[str]:
    found = [f"Left out: picture {name}: {reason}" for name, reason in pictures.left_out.items()]
    if pictures.enlarged:
        listed = ", ".join(pictures.enlarged[:5]) + (" and others" if len(pictures.enlarged) > 5 else "")
        found.append(
            f"Enlarged: {len(pictures.enlarged)} of {len(pictures)} pictures, which are smaller than "
            f"{pictures.resolution} px and therefore easier to reconstruct: {listed}"
        )
    return found


# --- files ----------------------------------------------------------------------------------------------------------


def write_comparison(comparison: Comparison, output: Path, footer: Mapping[str, str]) -> list[Path]:
    """Write the page, the tables, the records, and the values of every image, each by a rename.

    Args:
        comparison: from ``compare``.
        output: folder; created if missing.
        footer: facts about the run, such as versions and device.

    Returns:
        The paths, that of the page first.
    """
    table, paired = comparison_tables(comparison)
    sources = Sources(each.record for each in comparison.results)
    facts = {
        "Images": f"{len(comparison.pictures)} pictures of {comparison.pictures.folder}: ADM centre crop to "
        f"{comparison.pictures.resolution} px, both rounded to 8 bits before any metric",
        "Protocol": f"{comparison.protocol.name}: {comparison.protocol.description}",
        **comparison.origins,
        **footer,
    }
    page = render(
        sources,
        title=table.title,
        description=table.caption,
        facts=facts,
        warnings=comparison.warnings,
        tables={"reconstruction": replace(table, title="Reconstruction", caption=""), "differences": paired},
        scatter=scatter_data(comparison.results, Published([]), sources),
        reconstructions=[comparison.gallery] if comparison.gallery else [],
    )
    written = [output / PAGE]
    write_atomically(written[0], page)
    for name, each in {"reconstruction": table, "differences": paired}.items():
        written += write_table(each, output, name, ("csv", "md"))
    written.append(output / "per_image.csv")
    write_atomically(written[-1], per_image_csv(comparison.measured, comparison.pictures.names, comparison.metrics))
    for result in comparison.results:
        written.append(output / "records" / f"{result.cell.autoencoder}.json")
        result.record.write(written[-1])
    return written


def comparison_tables(comparison: Comparison) -> tuple[Table, Table]:
    """Return the table of means and the table of differences image by image."""
    count = len(comparison.pictures)
    title = f"{len(comparison.measured)} autoencoders on {count} picture{'s' if count > 1 else ''}"
    caption = (
        f"Pictures of {comparison.pictures.folder.name or comparison.pictures.folder}, cropped to "
        f"{comparison.pictures.resolution} px. Means over the images ± one standard error; bold: better than every "
        "other that is not perfect, image by image (95 % interval of the difference)."
    )
    if comparison.protocol.random_features:
        caption += " Random features: networks without trained weights; such numbers mean nothing outside their column."
    records = {each.cell.autoencoder: each.record for each in comparison.results}
    shapes = {each.cell.autoencoder: _latent_shape(each.cell) for each in comparison.results}
    main = main_table(comparison.measured, shapes, title, caption, comparison.metrics, records)
    return main, paired_table(comparison.measured, comparison.metrics, records)


def _latent_shape(cell: TableCell) -> str:
    side = -(-cell.resolution // cell.spatial_compression)  # padding
    return f"{side}x{side}x{cell.latent_channels}"

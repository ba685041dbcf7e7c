# SPDX-License-Identifier: Apache-2.0
"""Comparison of autoencoders on a folder of pictures, and its files."""

from __future__ import annotations

import tempfile
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
from dcae.benchmark.record import write_atomically
from dcae.files import replacing, sha256
from dcae.weights.catalogue import WeightsError, find
from evaluation.comparison.page import Page, side_by_side, to_page
from evaluation.comparison.pictures import PAGE, WORST, Pictures, find_pictures
from evaluation.comparison.tables import main_table, paired_table, per_image_csv
from evaluation.comparison.worst import WorstImage, ranking_metric, worst_images
from evaluation.features.fingerprints import weights_identity
from evaluation.features.reference import read_detections, write_reference
from evaluation.metrics.registry import FID, IMAGE_METRICS, ImageMetric, QualityMetric, SetMetric, image_metrics
from evaluation.quality.distances import subset_members
from evaluation.quality.reconstruction import Reconstruction, evaluate_reconstruction
from evaluation.tables.formats import Table, write_table

# The standard error of an rFID comes from 64 groups of images: four in each. Fewer images say next to nothing.
FEWEST_FOR_RFID = 256


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
        worst: worst images of each autoencoder, the worst first.
        warnings: everything that was left out, with the reason.
        left_out: autoencoders that could not be measured, with the reason.
        shapes: of the latents of each autoencoder.
        origins: source of the weights of each autoencoder.
    """

    pictures: Pictures
    protocol: Protocol
    metrics: list[QualityMetric]
    measured: dict[str, Reconstruction]
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
    metrics: Sequence[QualityMetric] = (FID, *IMAGE_METRICS),
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
        worst: number of each autoencoder's worst images to show.
        tell: called with each line of progress.
        metrics: to measure.

    Raises:
        CompareError: no autoencoder could be measured.
        DatasetError: no pictures.
    """
    pictures = find_pictures(folder, resolution)
    protocol, metrics, warnings = measurable(protocol, metrics, pictures)
    by_name = {each.name: each for each in contenders}
    origins: dict[str, str] = {}

    def loaded(name: str) -> tuple[nn.Module, str | None]:
        autoencoder = _load(by_name[name], resolution, config, device)
        origins[name] = _origin(by_name[name], autoencoder)
        return autoencoder, by_name[name].entry.padding

    measured: dict[str, Reconstruction] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference.safetensors"
        write_reference(pictures, len(pictures), protocol, reference, 16, device=device, metrics=metrics)
        subsets = subset_members(read_detections(reference, protocol), protocol).items()
        reasons = [f"Left out: pictures with {name}: {reason}" for name, reason in subsets if isinstance(reason, str)]
        warnings = [*_about_pictures(pictures), *warnings, *reasons]
        for line in warnings:
            tell(line)

        def measure(name: str) -> Reconstruction:
            autoencoder, padding = loaded(name)
            # A shard per batch: its random numbers are a function of its first image, as in worst_images.
            return evaluate_reconstruction(
                autoencoder, pictures, protocol, reference, batch_size, device=device, shown=0, padding=padding,
                shard_size=batch_size, metrics=metrics,
            )  # fmt: skip

        for name in by_name:
            try:
                measured[name] = measure(name)
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
    shown = worst_images(pictures, protocol, measured, loaded, worst, batch_size, device) if worst else {}
    warnings += [f"Left out: autoencoder {name}: {reason}" for name, reason in left_out.items()]
    warnings += [f"{name}: {line}" for name, each in measured.items() for line in each.remarks]
    shapes = {name: _latent_shape(by_name[name].entry, resolution) for name in measured}
    return Comparison(pictures, protocol, metrics, measured, shown, warnings, left_out, shapes, origins)


def _reason(error: BaseException) -> str:
    """Return the message of an error; of one that is not this project's own, with its type."""
    if isinstance(error, ConfigError | WeightsError | ValueError):
        return str(error)
    traceback.print_exception(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def measurable(
    protocol: Protocol, metrics: Sequence[QualityMetric], pictures: Pictures
) -> tuple[Protocol, list[QualityMetric], list[str]]:
    """Return the protocol and the metrics without those that cannot be measured, and a line for each left out."""
    kept, subsets, lines = [], {}, []
    for metric in metrics:
        if reason := why_left_out(metric, protocol, pictures):
            title = metric.of_reconstructions().title if isinstance(metric, SetMetric) else metric.title
            lines.append(f"Left out: metric {title}: {reason}")
        else:
            kept.append(metric)
    for name, subset in (protocol.subsets or {}).items():
        if reason := why_missing(find, subset.weights):
            lines.append(f"Left out: pictures with {name}: {reason}")
        else:
            subsets[name] = subset
    changes = {"subsets": subsets or None, "reconstruction_images": len(pictures)}
    return protocol.model_copy(update=changes), kept, lines


def why_left_out(metric: QualityMetric, protocol: Protocol, pictures: Pictures) -> str | None:
    """Return why a metric cannot be measured on these pictures here; ``None`` if it can."""
    if isinstance(metric, SetMetric) and len(pictures) < FEWEST_FOR_RFID:
        return f"{len(pictures)} pictures are too few, it needs {FEWEST_FOR_RFID}"
    if isinstance(metric, ImageMetric) and (too_small := metric.too_small(pictures.resolution)):
        return too_small
    weights = metric.weights(protocol)
    return why_missing(weights_identity, weights) if weights else None


def why_missing(lookup: Callable, weights: object) -> str | None:
    """Return the error of looking up weights, or ``None`` if they are there."""
    try:
        lookup(weights)
    except WeightsError as error:
        return str(error)
    return None


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


def _latent_shape(entry: AutoencoderFields, resolution: int) -> str:
    side = -(-resolution // entry.spatial_compression)
    return f"{side}x{side}x{entry.latent_channels}"


def _origin(contender: Contender, autoencoder: nn.Module) -> str:
    """Return the source of the weights, for the page."""
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
    found += [f"Left out: the crops of an earlier comparison in {each or '.'}" for each in pictures.written]
    if pictures.enlarged:
        listed = ", ".join(pictures.enlarged[:5]) + (" and others" if len(pictures.enlarged) > 5 else "")
        found.append(
            f"Enlarged: {len(pictures.enlarged)} of {len(pictures)} pictures, which are smaller than "
            f"{pictures.resolution} px and therefore easier to reconstruct: {listed}"
        )
    return found


# --- files ----------------------------------------------------------------------------------------------------------


def write_comparison(comparison: Comparison, output: Path, footer: Mapping[str, str]) -> list[Path]:
    """Write the page, the tables, the values of every image, and the crops, each by a rename.

    Args:
        comparison: from ``compare``.
        output: folder; created if missing.
        footer: facts about the run, such as versions and device.

    Returns:
        The paths, that of the page first.
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
        tables=[replace(table, title="Reconstruction", caption=""), paired],
        worst=comparison.worst,
        measured=comparison.measured,
        metrics=image_metrics(comparison.metrics),
        names=comparison.pictures.names,
        ranking=ranking_metric(comparison.measured),
        footer=lines,
    )
    written = [output / PAGE]
    write_atomically(written[0], to_page(page))
    for name, each in {"reconstruction": table, "differences": paired}.items():
        written += write_table(each, output, name, ("csv", "md"))
    written.append(output / "per_image.csv")
    write_atomically(written[-1], per_image_csv(comparison.measured, comparison.pictures.names, comparison.metrics))
    for name, images in comparison.worst.items():
        for rank, image in enumerate(images, 1):
            written.append(output / WORST / name / f"{rank}.png")
            _write_bytes(written[-1], side_by_side(image))
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
    main = main_table(comparison.measured, comparison.shapes, title, caption, comparison.metrics)
    return main, paired_table(comparison.measured, comparison.metrics)


def _write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)

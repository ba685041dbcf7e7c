# SPDX-License-Identifier: Apache-2.0
"""The model card of a trained autoencoder: description, use, training, data, metrics and provenance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from dcae.benchmark.entries import AutoencoderFields, AutoencoderRecipe, Entry, Phase
from evaluation.published import Published, read_published
from evaluation.tables.comparability import flat
from evaluation.tables.formats import Number, format_number
from evaluation.tables.metrics import METRICS, Metric
from evaluation.tables.numbers import number, paper_value
from evaluation.tables.rows import Result, Row, TableCell

SHOWN = ("reconstruction", "generation")  # kinds of records that depend on the weights
RANDOM = " (random feature weights)"


@dataclass(frozen=True)
class TrainedPhase:
    """One phase behind the weights, in the order of training; ``identity``: as its training wrote it."""

    autoencoder: str
    phase: Phase
    recipe: AutoencoderRecipe
    identity: dict[str, str] | None


@dataclass(frozen=True)
class TrainedAutoencoder:
    """The content of a card. ``latents``: attribute of the output of diffusers' ``encode``."""

    entry: AutoencoderFields
    class_name: str
    latents: str
    parameters: int
    scale: float | list[float]
    shift: float | list[float] | None
    phases: list[TrainedPhase]
    datasets: list[Entry]
    seed: int
    files: dict[str, str]
    benchmark: str
    version: str
    results: list[Result]


def card_text(model: TrainedAutoencoder, published: Published | None = None) -> str:
    """Return the card as Markdown with the metadata of the Hugging Face hub; deterministic to the byte.

    Args:
        published: the paper's numbers; by default those of ``config/published``.
    """
    parts = [_what(model), _use(model), _training(model), _data(model), _metrics(model, published), _provenance(model)]
    return f"---\n{_metadata(model)}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _metadata(model: TrainedAutoencoder) -> str:
    from huggingface_hub import ModelCardData

    licence = model.entry.licence
    known = licence is None or re.fullmatch(r"[\w.-]+", licence)
    start = getattr(model.entry, "pretrained", None)
    return ModelCardData(
        license=(licence.lower() if licence else None) if known else "other",
        license_name=None if known else licence,
        library_name="diffusers",
        tags=["autoencoder", "latent-diffusion", "image-reconstruction", *({"dc-ae"} & {model.entry.kind})],
        datasets=[dataset.name for dataset in model.datasets],
        base_model=start.id if start and re.fullmatch(r"[\w.-]+/[\w.-]+", start.id) else None,
    ).to_yaml()


def _what(model: TrainedAutoencoder) -> str:
    entry = model.entry
    f, c = entry.spatial_compression, entry.latent_channels
    lines = [
        f"# {entry.name}",
        "",
        f"{entry.description.rstrip('.')}. An autoencoder for latent diffusion, f{f}c{c}: images [B, 3, H, W] in "
        f"[-1, 1] become latents [B, {c}, H/{f}, W/{f}].",
        f"{model.parameters:,} parameters, diffusers' `{model.class_name}`.",
    ]
    lines += [f"Architecture: {entry.source}."] if entry.source else []
    lines += [f"Licence: {entry.licence or 'none named; name one before you publish this folder'}."]
    return "\n".join(lines)


def _in_code(value: float | list[float], name: str | None = None) -> str:
    """A number, by name if the configuration has it, or one number per channel, which diffusers does not use."""
    if isinstance(value, list):
        return f"torch.tensor({value}).reshape(-1, 1, 1)"
    return f"autoencoder.config.{name}" if name else repr(value)


def _scale_text(model: TrainedAutoencoder) -> str:
    value = "one number per channel" if isinstance(model.scale, list) else f"{model.scale:.6g}"
    if model.entry.latent_scale is not None:
        return f"{value}, as the entry gives it"
    images = model.phases[-1].recipe.latent_scale_images
    return f"{value}: 1/RMS of the latents of {images:,} training images"


def _use(model: TrainedAutoencoder) -> str:
    shifted = " - shift" if model.shift else ""
    encoded = f"autoencoder.encode(images).{model.latents}"
    f = model.entry.spatial_compression
    note = [f"`scale` is {_scale_text(model)}."]
    code = [
        "import torch",
        f"from diffusers import {model.class_name}",
        "",
        f'autoencoder = {model.class_name}.from_pretrained("{model.entry.name}")  # this folder, or its id on the hub',
        f"scale = {_in_code(model.scale, 'scaling_factor')}",
        *([f"shift = {_in_code(model.shift)}"] if model.shift else []),
        "with torch.no_grad():",
        f"    latents = {f'({encoded}{shifted})' if shifted else encoded} * scale  # as a diffusion model sees them",
        f"    reconstructions = autoencoder.decode(latents / scale{' + shift' if shifted else ''}).sample",
    ]
    return "\n".join(
        [
            "## Use",
            "",
            f"Height and width of the images are multiples of {f}.",
            "",
            "```python",
            *code,
            "```",
            "",
            *note,
        ]
    )


# --- training ---


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _training(model: TrainedAutoencoder) -> str:
    columns = [flat(each.phase.model_dump(mode="json", exclude_none=True, exclude={"name"})) for each in model.phases]
    fields = list(dict.fromkeys(field for column in columns for field in column))
    rows = [[field, *(_text(column[field]) if field in column else "–" for column in columns)] for field in fields]
    titles = ["", *(_phase_title(each, model.entry.name) for each in model.phases)]
    chosen = {
        f"{entry.name}: {field}": None
        for entry in (model.entry, *(each.recipe for each in model.phases))
        for field in entry.choices
    }
    parts = ["## Training", f"Phases, one after the other, with seed {model.seed}:", _pipe(rows, titles)]
    if chosen:
        parts.append(f"Left open by the paper and chosen here: {'; '.join(chosen)}.")
    return "\n\n".join(parts)


def _phase_title(each: TrainedPhase, name: str) -> str:
    return each.phase.name if each.autoencoder == name else f"{each.phase.name} of {each.autoencoder}"


def _data(model: TrainedAutoencoder) -> str:
    shares: dict[str, dict[str, float]] = {}
    for each in model.phases:
        for name, weight in each.recipe.datasets.items():
            shares.setdefault(name, {})[each.recipe.name] = weight / sum(each.recipe.datasets.values())
    rows = []
    for dataset in model.datasets:
        share = ", ".join(sorted({f"{share:.1%}" for share in shares[dataset.name].values()}))
        rows.append([dataset.name, share, dataset.description or dataset.kind, dataset.licence or "–"])
    return "## Data\n\n" + _pipe(rows, ["dataset", "share of the images", "what it is", "licence"])


# --- metrics ---


def _metrics(model: TrainedAutoencoder, published: Published | None) -> str:
    published = read_published() if published is None else published
    rows = [
        row
        for kind in SHOWN
        for result in model.results
        if result.kind == kind
        for row in _metric_rows(result, published)
    ]
    if not rows:
        return "## Metrics\n\nNone were measured with these weights."
    columns = ["dataset", "px", "diffusion model", "metric", "value ± standard error", "n", "protocol", "paper"]
    kept = [index for index in range(len(columns)) if any(row[index] != "–" for row in rows)]
    table = _pipe([[row[index] for index in kept] for row in rows], [columns[index] for index in kept])
    notes = ["Values with different protocols must not be compared."]
    if any(RANDOM in row[3] for row in rows):
        notes.append(
            f"*{RANDOM.strip(' ()').capitalize()}*: of feature networks that were not trained; such values compare "
            "with each other under the same protocol, and mean nothing beside published ones."
        )
    return "\n\n".join(["## Metrics", table, *notes])


def _metric_rows(result: Result, published: Published) -> Iterable[list[str]]:
    cell, record = result.cell, result.record
    by_name = {metric.name: (table, metric) for table, metrics in METRICS.items() for metric in metrics}
    diffusion = f"{cell.diffusion} p{cell.patch_size}" if cell.diffusion else "–"
    protocol = f"{record.protocol.get('name', 'unnamed')} {record.protocol_fingerprint[:8]}"
    for name, value in record.values.items():
        table, metric = by_name.get(name, (0, Metric(record.kind, name, name, None, 3)))
        yield [
            str(cell.dataset),
            str(cell.resolution),
            diffusion,
            metric.title + metric.arrow + (RANDOM if value.random_features else ""),
            format_number(number(value, metric)),
            f"{value.n:,}",
            protocol,
            "–" if value.random_features else _paper(cell, metric, table, published),
        ]


def _paper(cell: TableCell, metric: Metric, table: int, published: Published) -> str:
    """The paper's number for the same data, resolution and architecture."""
    found = paper_value(Row(cell, {}), metric, published, table) if table and not cell.is_stand_in else None
    return "–" if found is None else format_number(Number(found.value, found.decimals, printed=True))


# --- provenance ---


def _provenance(model: TrainedAutoencoder) -> str:
    lines = ["## Provenance", "", f"Trained and measured by dcae {model.version}, benchmark `{model.benchmark}`."]
    lines += ["", _pipe([[name, f"`{digest}`"] for name, digest in model.files.items()], ["file", "sha256"])]
    rows = [
        [
            _phase_title(each, model.entry.name),
            *(f"`{each.identity[name]}`" for name in ("configuration", "results_version", "data")),
        ]
        for each in model.phases
        if each.identity
    ]
    if rows:
        lines += ["", _pipe(rows, ["phase", "digest of its configuration", "results version", "digest of its data"])]
    return "\n".join(lines)


def _pipe(rows: list[list[str]], titles: list[str]) -> str:
    escaped = [[entry.replace("|", "\\|") for entry in row] for row in rows]
    return tabulate(escaped, titles, tablefmt="pipe", disable_numparse=True)

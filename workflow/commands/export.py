# SPDX-License-Identifier: Apache-2.0
"""``dcae export``: a trained autoencoder as a folder that diffusers opens, with a model card."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import dcae
from dcae.benchmark import Benchmark, Training
from dcae.files import sha256
from workflow import layout
from workflow.commands import options
from workflow.commands.tables import read_results
from workflow.staleness.steps import TRAIN_AUTOENCODER

if TYPE_CHECKING:
    from evaluation.tables.model_card import TrainedAutoencoder
    from evaluation.tables.rows import Result


def export(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    output: options.Output,
    results: options.ResultsFolder = Path("results"),
) -> None:
    """Write a trained autoencoder as a folder with a model card, ready to be uploaded; diffusers alone opens it."""
    from dcae.autoencoders.export import export_folder
    from evaluation.tables.model_card import card_text

    benchmark = Benchmark.load(benchmark_file)
    trained = _trained(benchmark, autoencoder, results)
    source = _folder(benchmark, benchmark.final_training(autoencoder), results)
    export_folder(source, output, card_text(trained))
    print(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    print(f"upload it with: hf upload OWNER/{autoencoder} {output}")


def _folder(benchmark: Benchmark, training: Training, results: Path) -> Path:
    names = {"autoencoder": training.autoencoder, "phase": training.phase}
    return layout.file(benchmark.name, layout.AUTOENCODER, results, **names)


def _trained(benchmark: Benchmark, name: str, results: Path) -> TrainedAutoencoder:
    """Return everything that the card of an autoencoder tells.

    Raises:
        ExportError: it cannot be exported, is not trained, or was trained otherwise than the benchmark says now.
    """
    from dcae.autoencoders.export import ExportError, require_exportable
    from dcae.autoencoders.folder import CONFIG, WEIGHTS, read_config
    from dcae.autoencoders.loading import load
    from evaluation.tables.model_card import TrainedAutoencoder

    if name not in benchmark.all_autoencoders:
        known = ", ".join(benchmark.all_autoencoders)
        raise ExportError(f"{name!r} is not an autoencoder of {benchmark.path}, which has {known}")
    entry = benchmark.autoencoder(name)
    require_exportable(entry)
    final = benchmark.final_training(name)
    if final is None:
        raise ExportError(f"autoencoder {name} is not trained here: its weights are those of {entry.pretrained.id}")
    folder = _folder(benchmark, final, results)
    if not ((folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()):
        training = shlex.join([str(folder / WEIGHTS), "--configfile", str(benchmark.path)])  # which takes all after it
        raise ExportError(
            f"autoencoder {name} is not trained yet: {folder} lacks {CONFIG} or {WEIGHTS}; train it with\n"
            f"  snakemake --cores all {training}"
        )
    model = load(entry, weights=folder, config=benchmark.config, device="meta")
    if model.latent_scale is None:
        raise ExportError(f"{folder / CONFIG} has no scaling_factor: train the autoencoder again, or give latent_scale")
    files = {file: sha256(folder / file) for file in (CONFIG, WEIGHTS)}
    recipes = {each.recipe.name: each.recipe for each in final.chain}
    datasets = dict.fromkeys(dataset for recipe in recipes.values() for dataset in recipe.datasets)
    return TrainedAutoencoder(
        entry=entry,
        class_name=read_config(folder)["_class_name"],
        latents=_latents(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        scale=model.latent_scale,
        shift=model.latent_shift or None,
        phases=[_phase(benchmark, each, results) for each in final.chain],
        datasets=[benchmark.dataset(dataset) for dataset in datasets],
        seed=benchmark.seed,
        files=files,
        benchmark=benchmark.name,
        version=dcae.__version__,
        results=_results(benchmark, name, files[WEIGHTS], results),
    )


def _phase(benchmark: Benchmark, training: Training, results: Path):
    """Return a phase of the chain; a card about another training than the one that was run is refused."""
    from dcae.autoencoders.export import ExportError
    from evaluation.tables.model_card import TrainedPhase

    folder = _folder(benchmark, training, results)
    names = {"autoencoder": training.autoencoder, "phase": training.phase}
    state = layout.file(benchmark.name, layout.AUTOENCODER_STATE, results, **names)
    identity = _identity(folder, state)
    now = TRAIN_AUTOENCODER.configuration(training)
    if identity and identity["configuration"] != now:
        raise ExportError(
            f"{folder} was trained with another configuration (digest {identity['configuration']}) than "
            f"{benchmark.path} and its entries give now ({now}); restore them, or run the benchmark again"
        )
    return TrainedPhase(training.autoencoder, training.settings, training.recipe, identity)


def _identity(folder: Path, state: Path) -> dict[str, str] | None:
    """Return the identity of the training that wrote a folder's weights; ``None`` if its record is gone."""
    from dcae.autoencoders.folder import WEIGHTS

    if not (folder / WEIGHTS).is_file():
        return None
    digest = sha256(folder / WEIGHTS)
    for path in sorted(state.glob("*/completed.json")):
        completed = json.loads(path.read_text(encoding="utf-8"))
        if completed["files"].get(WEIGHTS) == digest:
            return completed["identity"]
    return None


def _latents(model) -> str:
    """Return the attribute under which diffusers' ``encode`` returns latents, with the call for a posterior."""
    import torch

    if model.entry.kind == "dc-ae":
        return "latent"
    side = 2 * model.spatial_compression
    output = model.model.encode(torch.empty(1, 3, side, side, device="meta"))
    if hasattr(output, "latent_dist"):
        return f"latent_dist.{'mode' if model.entry.posterior == 'mode' else 'sample'}()"
    return "latent" if hasattr(output, "latent") else "latents"


def _results(benchmark: Benchmark, name: str, weights: str, folder: Path) -> list[Result]:
    """Return the autoencoder's results that were measured with these weights."""
    results = [result for result in read_results(benchmark, folder) if result.cell.autoencoder == name]
    fresh = [result for result in results if weights in result.record.provenance.inputs.values()]
    for result in results:
        if result not in fresh and result.kind != "efficiency":
            print(f"left out, since it was made with other weights: {result.kind} {result.cell.dataset}")
    return fresh

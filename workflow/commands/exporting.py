# SPDX-License-Identifier: Apache-2.0
"""``dcae export``: a trained autoencoder as a folder that diffusers opens, with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dcae
from dcae.benchmark import Benchmark, Training, digests
from dcae.files import sha256
from workflow.commands import options
from workflow.commands.presenting import read_results

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
    return results / benchmark.name / "autoencoders" / training.autoencoder / training.phase


def _trained(benchmark: Benchmark, name: str, results: Path) -> TrainedAutoencoder:
    """Everything that the card of an autoencoder tells.

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
        raise ExportError(
            f"autoencoder {name} is not trained yet: {folder} lacks {CONFIG} or {WEIGHTS}; train it with\n"
            f"  snakemake --cores all --configfile {benchmark.path} {folder / WEIGHTS}"
        )
    model = load(entry, weights=folder, config=benchmark.config, device="meta")
    if model.latent_scale is None:
        raise ExportError(f"{folder / CONFIG} has no scaling_factor: train the autoencoder again, or give latent_scale")
    files = {file: sha256(folder / file) for file in (CONFIG, WEIGHTS)}
    recipes = {recipe.name: recipe for recipe in (_recipe(benchmark, each) for each in _chain(final))}
    datasets = dict.fromkeys(dataset for recipe in recipes.values() for dataset in recipe.datasets)
    return TrainedAutoencoder(
        entry=entry,
        class_name=read_config(folder)["_class_name"],
        latents=_latents(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        scale=model.latent_scale,
        shift=model.latent_shift or None,
        phases=[_phase(benchmark, each, results) for each in _chain(final)],
        datasets=[benchmark.dataset(dataset) for dataset in datasets],
        seed=benchmark.seed,
        files=files,
        benchmark=benchmark.name,
        version=dcae.__version__,
        results=_results(benchmark, name, files[WEIGHTS], results),
    )


def _chain(training: Training | None) -> list[Training]:
    """Trainings from the first one to this one."""
    return [*_chain(training.start), training] if training else []


def _recipe(benchmark: Benchmark, training: Training):
    return benchmark.recipe(benchmark.autoencoder(training.autoencoder).recipe)


def _phase(benchmark: Benchmark, training: Training, results: Path):
    """A phase of the chain; a card that tells of another training than the one that was run is refused."""
    from dcae.autoencoders.export import ExportError
    from evaluation.tables.model_card import TrainedPhase

    recipe = _recipe(benchmark, training)
    folder = _folder(benchmark, training, results)
    identity = _identity(folder)
    now = digests.training_digest(benchmark, training)
    if identity and identity["configuration"] != now:
        raise ExportError(
            f"{folder} was trained with another configuration (digest {identity['configuration']}) than "
            f"{benchmark.path} and its entries give now ({now}); restore them, or run the benchmark again"
        )
    phase = next(phase for phase in recipe.phases if phase.name == training.phase)
    return TrainedPhase(training.autoencoder, phase, recipe, identity)


def _identity(folder: Path) -> dict[str, str] | None:
    """What decided the weights in a folder, as their training noted it beside them; ``None`` if that is gone."""
    from dcae.autoencoders.folder import WEIGHTS

    if not (folder / WEIGHTS).is_file():
        return None
    digest = sha256(folder / WEIGHTS)
    for path in sorted(folder.with_name(f"{folder.name}.state").glob("*/completed.json")):
        completed = json.loads(path.read_text())
        if completed["files"].get(WEIGHTS) == digest:
            return completed["identity"]
    return None


def _latents(model) -> str:
    """Under which name diffusers' ``encode`` returns latents, with the call that takes them from a posterior."""
    import torch

    if model.entry.kind == "dc-ae":
        return "latent"
    side = 2 * model.spatial_compression
    output = model.model.encode(torch.empty(1, 3, side, side, device="meta"))
    if hasattr(output, "latent_dist"):
        return f"latent_dist.{'mode' if model.entry.posterior == 'mode' else 'sample'}()"
    return "latent" if hasattr(output, "latent") else "latents"


def _results(benchmark: Benchmark, name: str, weights: str, folder: Path) -> list[Result]:
    """The autoencoder's results that were measured with exactly these weights."""
    results = [result for result in read_results(benchmark, folder) if result.cell.autoencoder == name]
    fresh = [result for result in results if weights in result.record.provenance.inputs.values()]
    for result in results:
        if result not in fresh and result.kind != "efficiency":
            print(f"left out, since it was made with other weights: {result.kind} {result.cell.dataset}")
    return fresh

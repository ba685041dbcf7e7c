# SPDX-License-Identifier: Apache-2.0
"""Every entry that a benchmark uses, whether its file names it or an entry does."""

from __future__ import annotations

from dcae.benchmark.benchmark import Benchmark
from dcae.benchmark.entries import Entry


def entries_used(benchmark: Benchmark) -> list[tuple[str, Entry]]:
    """Kind (the folder under ``config``) and entry, each once, in the order of the benchmark."""
    content = benchmark.content
    autoencoders = [benchmark.autoencoder(name) for name in benchmark.all_autoencoders]
    diffusion = [benchmark.diffusion(plan.diffusion) for plan in content.generation]
    recipes = [benchmark.recipe(entry.recipe) for entry in (*autoencoders, *diffusion) if entry.recipe]
    trained_on = [name for recipe in recipes for name in getattr(recipe, "datasets", {})]
    generated = [name for plan in content.generation for name in (plan.dataset, plan.evaluated_on) if name]
    datasets = [*content.reconstruction.datasets, *generated, *trained_on]
    purposes = ("reconstruction", *(("generation", "efficiency") if content.generation else ()))
    used = [
        *(("autoencoders", entry) for entry in autoencoders),
        *(("recipes", entry) for entry in recipes),
        *(("diffusion", entry) for entry in diffusion),
        *(("datasets", benchmark.dataset(name)) for name in datasets),
        *(("protocols", benchmark.protocol(purpose)) for purpose in purposes),
        *(("protocols", further) for further in benchmark.further_protocols("reconstruction")),
        *(("protocols", further) for further in benchmark.further_protocols("generation")),
    ]
    return list({(kind, entry.name): (kind, entry) for kind, entry in used}.values())

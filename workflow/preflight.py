# SPDX-License-Identifier: Apache-2.0
"""Faults that would end jobs, found before any job starts: users' code, data and weights that are not there.

``python -m workflow.preflight BENCHMARK`` builds and tries the entries of users' code, and prints their faults as JSON.
That is a process of its own, since it loads torch and foreign code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

from dcae import OWN_PACKAGES
from dcae.benchmark import Benchmark, ConfigError, GenerationCell, ReconstructionCell
from dcae.weights.catalogue import WeightsError
from workflow import layout


def check(benchmark: Benchmark) -> None:
    """Raise ``ConfigError`` if code of users has faults; the error lists what else is missing as well."""
    if faults := code_faults(benchmark):
        raise _error([*faults, *missing_inputs(benchmark)])


def check_inputs(benchmark: Benchmark) -> None:
    """Raise ``ConfigError`` that lists data and weights that unfinished cells need and that are not there."""
    if faults := missing_inputs(benchmark):
        raise _error(faults)


def _error(faults: list[str]) -> ConfigError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return ConfigError("\n".join([f"{count}, so nothing was started:", *(f"  {each}" for each in faults)]))


# --- users' code ---


def code_faults(benchmark: Benchmark) -> list[str]:
    """Return a line for each ``python`` entry of a user that cannot be built, or fails on an image that it will meet.

    Each is tried on one image of every resolution. Without such entries, this takes no time.
    """
    if not _resolutions(benchmark):
        return []
    program = [sys.executable, "-m", "workflow.preflight", str(benchmark.path)]
    found = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        return [f"entries of kind python end the process that tries them, with status {found.returncode}"]
    return json.loads(found.stdout.splitlines()[-1])  # foreign code may have printed before


def _resolutions(benchmark: Benchmark) -> dict[str, list[int]]:
    """Return the resolutions that autoencoders meet whose code is a user's."""
    found: dict[str, set[int]] = {}
    for cell in (*benchmark.cells.reconstruction, *benchmark.cells.generation):
        base = benchmark.resolve_autoencoder(cell.autoencoder).base
        if base.kind == "python" and base.factory.split(".")[0].split(":")[0] not in OWN_PACKAGES:
            found.setdefault(cell.autoencoder, set()).add(cell.resolution)
    return {name: sorted(resolutions) for name, resolutions in found.items()}


def try_code(benchmark: Benchmark) -> list[str]:
    """Build and try the entries of users' code in this process; see ``code_faults``."""
    import torch

    from dcae.autoencoders.contract import OutputError, checked, told
    from dcae.autoencoders.loading import load
    from dcae.autoencoders.tiling import reconstruct

    encoded = {cell.autoencoder for cell in benchmark.cells.generation}
    faults: dict[str, None] = {}  # each once, though two entries may have the same code below
    for name, resolutions in _resolutions(benchmark).items():
        entry = benchmark.autoencoder(name)
        file = benchmark.config.file("autoencoders", entry.name)
        try:
            autoencoder = load(entry, config=benchmark.config)
            for side in resolutions:
                with torch.inference_mode():
                    checked(reconstruct(autoencoder, torch.zeros(1, 3, side, side), entry.padding), (1, 3, side, side))
        except (ConfigError, WeightsError) as error:
            faults[f"{file}: {error}"] = None
            continue
        except OutputError as error:
            faults[f"{file}: an image of {side} px is reconstructed as {error}"] = None
        except (Exception, SystemExit) as error:  # foreign code
            faults[f"{file}: on an image of {side} px: {told(error)}"] = None
        resolved = benchmark.resolve_autoencoder(name)
        if name in encoded and not resolved.training and _has_no_scale(autoencoder, resolved.base.latent_scale):
            faults[
                f"{file}: latent_scale is missing, which the diffusion models on its latents need: give the number, or "
                "latent_scale: measured"
            ] = None
    return list(faults)


def _has_no_scale(autoencoder: object, given: object) -> bool:
    return given is None and getattr(autoencoder, "latent_scale", None) is None


# --- data and weights ---


def missing_inputs(benchmark: Benchmark) -> list[str]:
    """Return a line for each dataset and each file of weights that cells without a record need, and that is missing.

    Released weights that the run downloads are not among them.
    """
    from workflow.planning.plan import requirements

    cells = list(_without_record(benchmark))
    if not cells:
        return []
    names = {name for cell in cells for name in _names(benchmark, cell)}
    return [
        f"{each.kind} of {each.name}: {each.place} is not there"
        for each in requirements(benchmark)
        if not (each.there or each.is_downloaded)
        and (each.kind == "weights" or each.name.removeprefix("text encoder of ") in names)
    ]


def _without_record(benchmark: Benchmark) -> Iterable[ReconstructionCell | GenerationCell]:
    patterns = {
        layout.RECONSTRUCTION_RECORD: benchmark.cells.reconstruction,
        layout.GENERATION_RECORD: benchmark.cells.generation,
    }
    for pattern, cells in patterns.items():
        yield from (cell for cell in cells if not layout.file(benchmark.name, pattern, **vars(cell)).is_file())


def _names(benchmark: Benchmark, cell: ReconstructionCell | GenerationCell) -> Iterable[str]:
    """Return the names of the datasets and of the models with released weights that a cell needs."""
    resolved = benchmark.resolve(cell)
    yield cell.dataset
    yield resolved.autoencoder.base.name
    for training in resolved.autoencoder.training.chain if resolved.autoencoder.training else ():
        weights = layout.file(
            benchmark.name,
            f"{layout.AUTOENCODER}/{layout.AUTOENCODER_WEIGHTS}",
            autoencoder=training.autoencoder,
            phase=training.phase,
        )
        if not weights.is_file():
            yield from training.datasets
            yield training.entry.name
    if isinstance(cell, GenerationCell):
        yield from (resolved.evaluated_on.name, cell.diffusion)


if __name__ == "__main__":
    print(json.dumps(try_code(Benchmark.load(sys.argv[1]))))

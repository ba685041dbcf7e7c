# SPDX-License-Identifier: Apache-2.0
"""Everything that waits for a GPU, in one command: speeds, memory, and the comparison with diffusers.

    python -m bench.gpu results/measured/MY-GPU

Steps whose results are in that folder are not repeated, so the same command goes on after an interruption. With
``--time-limit 9`` it stops by itself within nine minutes, with exit code 75 if steps are left. On one H100 all of it is
planned for about half an hour; the rows that the paper's claims depend on come first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dcae.benchmark.record import write_atomically
from dcae.training.stopping import EXIT_UNFINISHED

SECONDS_OF_DC_AE = 360  # up to three pairs of turns, each of which loads torch and a model
OF_DC_AE = "benchmark-dc-ae.txt"


@dataclass(frozen=True)
class Rows:
    """Rows of a suite by a protocol; ``pattern`` is a shell pattern of row names."""

    suite: str
    protocol: str
    pattern: str = "*"


STEPS: tuple[Rows | str, ...] = (
    Rows("paper", "paper", "table3-512px-uvit-h-*"),  # the ratios of the abstract
    Rows("paper", "modern", "table3-512px-uvit-h-p1-dc-ae-f32c32"),
    Rows("paper", "modern", "table3-512px-dit-xl-p1-dc-ae-f32c32"),
    OF_DC_AE,
    Rows("autoencoders", "autoencoders", "phases-*"),
    Rows("paper", "paper"),
    Rows("autoencoders", "autoencoders", "autoencoder-512px-*"),
    Rows("paper", "end-to-end", "table3-512px-uvit-h-p2-sd-vae-f8"),
    Rows("paper", "end-to-end", "table3-512px-uvit-h-p1-dc-ae-f64c128"),
    Rows("autoencoders", "autoencoders"),
)

Run = Callable[[Sequence[str], Path | None, float | None], int]


def run(command: Sequence[str], output: Path | None, seconds: float | None) -> int:
    """Run a Python module as a command; return its exit status.

    Args:
        command: the module and its arguments.
        output: file for what it prints, written when it is done.
        seconds: time limit, after which it is killed with its children, and ``EXIT_UNFINISHED`` returned.
    """
    arguments = [sys.executable, "-m", *command]
    printed = None if output is None else subprocess.PIPE
    # A session of its own: processes that it started would otherwise live on, and hold the GPU.
    with subprocess.Popen(arguments, stdout=printed, text=True, start_new_session=True) as process:
        try:
            found, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return EXIT_UNFINISHED
            raise
    if output is not None:
        print(found, flush=True)
        if found.strip():  # also where a target is missed, which it prints and exits with 1 for
            write_atomically(output, found)
    return process.returncode


def measure(
    folder: Path, device: str, minutes: float | None, steps: Sequence[Rows | str] = STEPS, run: Run = run
) -> int:
    """Run every step that is not done yet.

    Args:
        folder: of records, tables, figures and the comparison with diffusers.
        device: ``cuda`` or ``cpu``.
        minutes: time limit of all steps together.
        steps: in their order.
        run: runs a command.

    Returns:
        0 if all is done, ``EXIT_UNFINISHED`` if there was no time for some, 1 if a step failed or a target is missed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = None if minutes is None else time.monotonic() + 60 * minutes
    failed = []
    for step in steps:
        left = None if end is None else end - time.monotonic()
        status = _rows(step, folder, device, left, run) if isinstance(step, Rows) else _dc_ae(folder, device, left, run)
        if status == EXIT_UNFINISHED:
            print("time limit: the same command goes on", flush=True)
            return status
        if status:
            failed.append(step)
            print(f"{step}: exit status {status}", flush=True)
    print(f"failed: {failed}" if failed else f"all is done: {folder}", flush=True)
    return int(bool(failed))


def _rows(step: Rows, folder: Path, device: str, left: float | None, run: Run) -> int:
    command = ["workflow.cli", "profile-suite", step.suite, "--protocol", step.protocol, "--rows", step.pattern]
    command += ["--device", device, "--output", str(folder)]
    if left is not None:
        command += ["--time-limit", f"{max(left, 0) / 60:.2f}"]
    return run(command, None, None)


def _dc_ae(folder: Path, device: str, left: float | None, run: Run) -> int:
    output = folder / OF_DC_AE
    if output.is_file():
        print(f"{output}: there already", flush=True)
        return int("MISSED" in output.read_text())
    if left is not None and left < SECONDS_OF_DC_AE:
        return EXIT_UNFINISHED
    return run(["bench.dc_ae", "--device", device], output, left)


def main() -> int:
    """Measure on this machine's GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the results, for example results/measured/h100")
    parser.add_argument(
        "--time-limit", type=float, metavar="MINUTES", help="of all steps; exit code 75 if some are left"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to measure")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that this installation of PyTorch can use; with --device cpu all of it takes days")
    return measure(arguments.folder, arguments.device, arguments.time_limit)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Everything that waits for a GPU, in one command: speeds, memory, and the comparison with diffusers.

    python -m bench.gpu results/measured/MY-GPU --time-limit 9 --archive MY-GPU.tar.gz

Steps come by value: those of ``HEADLINE`` take about six minutes of one H200 (modelled, not measured), all of them
three quarters of an hour. A step that does not fit into the time is left out, and the next one that fits is run. What
has its results in the folder is not repeated, so the same command goes on after an interruption; with exit status 75
steps are left.

Without diffusers all but the comparison and the rows from end to end are measured.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from dcae.benchmark.config import Config
from dcae.files import replacing
from dcae.training.stopping import EXIT_UNFINISHED
from evaluation.efficiency.suite import suite_rows
from evaluation.published import read_published
from workflow import layout

OF_DC_AE = "benchmark-dc-ae.txt"
SECONDS_BETWEEN_ARCHIVES = 15.0


@dataclass(frozen=True)
class Rows:
    """Rows of a suite by a protocol; ``pattern`` is a shell pattern of row names.

    ``seconds``: without as many left, it is not worth starting. A suite resumes row by row, so that the time of a row
    is enough.
    """

    suite: str
    protocol: str
    pattern: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.suite} by {self.protocol}, {self.pattern}"


@dataclass(frozen=True)
class AgainstDiffusers:
    """The comparison of DC-AE with diffusers, ``bench.dc_ae``."""

    seconds: float

    def __str__(self) -> str:
        return "DC-AE against diffusers"


Step = Rows | AgainstDiffusers

# Seconds are modelled for an H200, from counted operators and their bytes.
HEADLINE: tuple[Step, ...] = (
    Rows("autoencoders", "autoencoders", "phases-*", 35),  # what phase 2 saves
    Rows("paper", "paper", "table3-512px-uvit-h-*-f[68]*", 132),  # SD-VAE-f8 p2 and DC-AE-f64 p1: the abstract's ratios
    AgainstDiffusers(70),
    Rows("paper", "headline", "table3-512px-*[hl]-p1-dc-ae-f32c32", 128),  # DiT-XL and UViT-H, against twice the paper
)
AFTER_IT: tuple[Step, ...] = (
    Rows("paper", "modern", "table3-512px-uvit-h-p1-dc-ae-f32c32", 128),
    Rows("paper", "modern", "table3-512px-dit-xl-p1-dc-ae-f32c32", 123),
    Rows("paper", "paper", "table3-512px-uvit-h-*", 52),
    Rows("paper", "paper", "*", 60),
    Rows("autoencoders", "autoencoders", "autoencoder-512px-*", 30),
    Rows("paper", "end-to-end", "table3-512px-uvit-h-p2-sd-vae-f8", 90),
    Rows("paper", "end-to-end", "table3-512px-uvit-h-p1-dc-ae-f64c128", 90),
    Rows("autoencoders", "autoencoders", "*", 30),
)

Run = Callable[[Sequence[str], Path | None, float | None], int]


def run(command: Sequence[str], output: Path | None, seconds: float | None) -> int:
    """Run a Python module as a command; return its exit status.

    Args:
        command: the module and its arguments.
        output: file for its prints; until the command ends they are in ``….part``, line by line.
        seconds: time limit, after which it is killed with its children, and ``EXIT_UNFINISHED`` returned.
    """
    arguments = [sys.executable, "-u", "-m", *command]
    part = None if output is None else output.with_name(f"{output.name}.part")
    with (
        nullcontext() if part is None else part.open("w", encoding="utf-8") as printed,
        # A session of its own: processes that it started would otherwise live on, and hold the GPU.
        subprocess.Popen(arguments, stdout=printed, start_new_session=True) as process,
    ):
        try:
            process.wait(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return EXIT_UNFINISHED
            raise
    if part is not None:
        print(part.read_text(encoding="utf-8"), flush=True)
        if part.read_text(
            encoding="utf-8"
        ).strip():  # also where a target is missed, which it prints and exits with 1 for
            os.replace(part, output)
    return process.returncode


def rows_of(step: Rows) -> list[str]:
    """Return the names of a step's rows."""
    config = Config()
    suite, protocol = config.entry("suites", step.suite), config.entry("protocols", step.protocol)
    return [row.name for row in suite_rows(suite, protocol, config, read_published(), step.pattern)]


def has_results(step: Step, folder: Path) -> bool:
    """Return whether each of a step's results is in the folder; whether they are still valid its command finds out."""
    if isinstance(step, AgainstDiffusers):
        return (folder / OF_DC_AE).is_file()
    records = folder / layout.RECORDS / step.protocol
    return all((records / f"{name}.json").is_file() for name in rows_of(step))


def measure(
    folder: Path, device: str, minutes: float | None, steps: Sequence[Step] = HEADLINE + AFTER_IT, run: Run = run,
    clock: Callable[[], float] = time.monotonic,
) -> int:  # fmt: skip
    """Run every step that fits into the time that is left; those that have their results come last.

    Args:
        folder: of records, tables, figures and the comparison with diffusers.
        device: ``cuda`` or ``cpu``.
        minutes: time limit of all steps together.
        steps: in their order.
        run: runs a command.
        clock: seconds.

    Returns:
        0 if all is done, 1 if a step failed or a target is missed, ``EXIT_UNFINISHED`` if there was no time for some.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = None if minutes is None else clock() + 60 * minutes
    failed, unfinished = [], []
    for step in sorted(steps, key=lambda step: has_results(step, folder)):
        left = None if end is None else end - clock()
        if left is not None and left < step.seconds:
            print(
                f"{step}: left out, it takes about {step.seconds:.0f} s, and {max(left, 0):.0f} s are left", flush=True
            )
            unfinished.append(step)
            continue
        status = _rows(step, folder, device, left, run) if isinstance(step, Rows) else _dc_ae(folder, device, left, run)
        if status:
            (unfinished if status == EXIT_UNFINISHED else failed).append(step)
            print(f"{step}: exit status {status}", flush=True)
    if failed:
        print(f"failed: {', '.join(map(str, failed))}", flush=True)
    elif unfinished:
        print(f"the same command goes on; steps left: {len(unfinished)} of {len(steps)}", flush=True)
    else:
        print(f"all is done: {folder}", flush=True)
    return 1 if failed else EXIT_UNFINISHED if unfinished else 0


def _rows(step: Rows, folder: Path, device: str, left: float | None, run: Run) -> int:
    command = ["workflow.cli", "profile-suite", step.suite, "--protocol", step.protocol, "--rows", step.pattern]
    command += ["--device", device, "--output", str(folder)]
    if left is not None:
        command += ["--time-limit", f"{left / 60:.2f}"]
    return run(command, None, None)


def _dc_ae(folder: Path, device: str, left: float | None, run: Run) -> int:
    output = folder / OF_DC_AE
    if output.is_file():
        print(f"{output}: there already", flush=True)
        return int("MISSED" in output.read_text(encoding="utf-8"))
    if find_spec("diffusers") is None:
        print("DC-AE against diffusers: left out, diffusers is not installed", flush=True)
        return 0
    return run(["bench.dc_ae", "--device", device], output, left)


@contextmanager
def archived(folder: Path, archive: Path, seconds: float = SECONDS_BETWEEN_ARCHIVES) -> Iterator[None]:
    """Keep an archive of a folder up to date, and write it at the end.

    For a machine that may end at any time and from which one file can be fetched.
    """
    ended = threading.Event()

    def write() -> None:
        with replacing(archive) as temporary, tarfile.open(temporary, "w:gz") as written:
            for path in sorted(folder.rglob("*")):
                with suppress(FileNotFoundError):  # another process has just renamed it
                    written.add(path, path.relative_to(folder.parent), recursive=False)

    def keep() -> None:
        while not ended.wait(seconds):
            write()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write()


def main() -> int:
    """Measure on this machine's GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the results, for example results/measured/h100")
    parser.add_argument(
        "--time-limit", type=float, metavar="MINUTES", help="of all steps; exit status 75 if some are left"
    )
    parser.add_argument("--headline", action="store_true", help="only the first six minutes")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="tar.gz of the folder, written every 15 seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to measure")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that this installation of PyTorch can use; with --device cpu all of it takes days")
    steps = HEADLINE if arguments.headline else HEADLINE + AFTER_IT
    with archived(arguments.folder, arguments.archive) if arguments.archive else nullcontext():
        return measure(arguments.folder, arguments.device, arguments.time_limit, steps)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""SIGKILLs at random moments of the tiny benchmark, the same command again after each, and the results compared.

    python -m tests.workflow.kill_storm --times 25

A kill hits all processes of a run, Snakemake alone, or any one of its processes. Whenever the run comes to its end,
tables and trained weights have to equal those of an undisturbed run, and nothing temporary may be left; then it starts
from nothing again, until all kills are done. CI runs a short form (test_killed.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.workflow.conftest import TINY, Clone, copy_repository, tables_of

COMMAND = ("snakemake", "--cores", "2", "--configfile", TINY)
MOST_SECONDS = 900  # of a run from its last kill to its end, on a busy machine
FIRST_MOMENT = 1.0  # seconds after the start


def processes_of(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def start(clone: Clone, log: Path) -> subprocess.Popen:
    with log.open("a") as output:
        return subprocess.Popen(
            COMMAND, cwd=clone.folder, env=clone.environment, stdout=output, stderr=output, start_new_session=True
        )


def results_of(clone: Clone) -> dict[str, bytes]:
    """Return trained weights and tables, without measured times, which differ from run to run."""
    results = clone.folder / "results" / "tiny"
    weights = [path for kind in ("autoencoders", "diffusion") for path in results.glob(f"{kind}/**/*.safetensors")]
    found = {str(path.relative_to(results)): path.read_bytes() for path in weights}
    return found | {name: content for name, content in tables_of(clone).items() if not name.startswith("table3")}


def left_over(clone: Clone) -> list[str]:
    """Return temporary files, and locks of Snakemake."""
    paths = [*clone.folder.glob("results/**/.*"), *clone.folder.glob(".snakemake/locks/*")]
    return [str(path.relative_to(clone.folder)) for path in paths if path.is_file()]


def storm(
    clone: Clone,
    undisturbed: dict[str, bytes],
    times: int,
    longest: float,
    seed: int,
    say: Callable[[str], None] = print,
) -> None:
    """Kill runs in a fresh clone, and compare their results.

    Args:
        clone: fresh; results and Snakemake's notes are removed after each comparison.
        undisturbed: ``results_of`` a run that nobody killed.
        times: number of kills.
        longest: seconds from a start to its kill, at most.
        seed: of moments and targets.

    Raises:
        AssertionError: results differ, a run fails by itself, or something temporary is left.
    """
    draw, kills, log = random.Random(seed), 0, clone.folder / "storm.log"
    runs: list[subprocess.Popen] = []
    try:
        while True:
            runs.append(start(clone, log))
            target = "nothing"
            if kills < times:
                target = draw.choice(("everything", "Snakemake", "one process"))
                moment = draw.uniform(FIRST_MOMENT, longest)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    runs[-1].wait(timeout=moment)
                alive = processes_of(runs[-1].pid)
                if runs[-1].poll() is None and alive:
                    chosen = {"everything": alive, "Snakemake": [runs[-1].pid], "one process": [draw.choice(alive)]}
                    kill(chosen[target])
                    kills += 1
                    say(f"kill {kills} of {times}, {target} after {moment:.1f} s")
            status = runs[-1].wait(timeout=MOST_SECONDS)
            if status == 0:
                assert results_of(clone) == undisturbed, f"results differ; see {clone.folder}"
                assert left_over(clone) == [], left_over(clone)
                say(f"the same results after {kills} kills")
                if kills == times:
                    return
                shutil.rmtree(clone.folder / "results")
                shutil.rmtree(clone.folder / ".snakemake")
            elif target == "nothing":
                raise AssertionError(f"the run failed after its last kill:\n{log.read_text()[-5000:]}")
    finally:
        for run in runs:
            kill(processes_of(run.pid))
            run.wait(timeout=30)


def main() -> None:
    """Run a storm, with the undisturbed run before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=25, help="number of kills (default: 25)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and targets (default: 0)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends the runs as well
    with tempfile.TemporaryDirectory(prefix="dcae-storm-") as folder:
        whole = copy_repository(Path(folder) / "undisturbed")
        started = time.monotonic()
        whole.snakemake()
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        clone = copy_repository(Path(folder) / "killed")
        storm(clone, results_of(whole), options.times, seconds, options.seed, lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""``make bench``: how long a user waits for what should be quick, as ratios to other programs on the same machine.

Ratios are of CPU seconds, which depend little on what else the machine does; the smallest of several runs counts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from bench.timing import Target, best_of_turns, in_a_new_process, run_comparisons
from dcae.benchmark.config import Config
from dcae.data.loading import open_dataset

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
SNAKEMAKE = str(PROGRAMS / "snakemake")
SCENES, SHAPES = 240, 30  # shapes per image: as many as a scene has, about


def cpu_seconds(*command: str, folder: Path = ROOT) -> float:
    """Return the CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def dry_runs() -> dict[str, float]:
    """Return the seconds of a dry run of the demo and of an empty workflow."""
    demo = cpu_seconds(SNAKEMAKE, "--dry-run", "--configfile", "config/demo.yaml")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "Snakefile").write_text("rule all:\n    input: []\n")
        return {"own": demo, "other": cpu_seconds(SNAKEMAKE, "--dry-run", folder=Path(name))}


def commands(own: tuple[str, ...], other: tuple[str, ...]) -> dict[str, float]:
    """Return the seconds of two commands."""
    return {"own": cpu_seconds(*own), "other": cpu_seconds(*other)}


def drawings() -> dict[str, float]:
    """Return the seconds of scenes of 64 px, and of as many images on which Pillow draws as many shapes.

    Scenes are antialiased; Pillow's images are drawn at four times the side and reduced.
    """
    scenes = open_dataset(Config().entry("datasets", "scenes"), "train", 64)
    start = time.process_time()
    for index in range(SCENES):
        scenes[index]
    middle = time.process_time()
    for index in range(SCENES):
        image = Image.new("RGB", (256, 256))
        draw = ImageDraw.Draw(image)
        for shape in range(SHAPES):
            left, top = (28 * shape + index) % 192, 44 * shape % 192
            draw.ellipse((left, top, left + 64, top + 64), fill=(shape, index % 256, 128))
        image.resize((64, 64), Image.Resampling.BOX).tobytes()
    return {"own": middle - start, "other": time.process_time() - middle}


# Name: what measures both sides, and how many times the other's time this project may take.
IMPORT = (sys.executable, "-c", "import typer, pydantic")
COMPARISONS = {
    "import dcae.benchmark over import typer, pydantic": (
        partial(commands, (sys.executable, "-c", "import dcae.benchmark"), IMPORT),
        4,
    ),
    "dcae --help over import typer, pydantic": (partial(commands, (str(PROGRAMS / "dcae"), "--help"), IMPORT), 7),
    "dry run of the demo over that of an empty Snakefile": (dry_runs, 2.5),
    f"scenes of 64 px over {SHAPES} ellipses each by Pillow": (partial(in_a_new_process, drawings), 4),
}


def comparisons(device: str, tolerance: float) -> Iterator[bool]:
    """Compare CPU seconds."""
    for name, (turn, most) in COMPARISONS.items():
        target = Target(most, at_most=True)
        best = best_of_turns(turn, lambda best, target=target: target.met(best["own"] / best["other"]))
        seconds = f"CPU seconds: {best['own']:.2f}, {best['other']:.2f}"
        yield target.check(f"{name} ({seconds})", best["own"] / best["other"], tolerance)


if __name__ == "__main__":
    sys.exit(run_comparisons(__doc__, comparisons))

# SPDX-License-Identifier: Apache-2.0
"""Where a record comes from: code, configuration, input files, packages, device."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dcae
from dcae.benchmark import Provenance
from dcae.benchmark.sources import REPOSITORY
from dcae.files import content_hashes
from dcae.weights.hub import hub_commit

PACKAGES = (
    "torch", "torchvision", "diffusers", "timm", "torch-fidelity", "lpips", "torchmetrics", "open-clip-torch", "numpy",
)  # fmt: skip


def input_hashes(*folders_or_files: Path | None) -> dict[str, str]:
    """Sha256 of each input file; a folder stands for the safetensors and JSON files directly in it."""
    return content_hashes(filter(None, folders_or_files))


def _git(*arguments: str) -> str | None:
    """Output of a git command in the repository, or ``None`` where there is no git or no repository."""
    try:
        result = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance(
    *, config_digest: str, code_digest: str, inputs: dict[str, str], seed: int, started: float
) -> Provenance:
    """Everything that decided a record; ``started`` is the ``time.monotonic()`` of the step's first line."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=dcae.__version__,
        git_commit=_git("rev-parse", "HEAD"),
        git_dirty=None if status is None else bool(status),
        command=" ".join(["dcae", *sys.argv[1:]]),
        config_digest=config_digest,
        code_digest=code_digest,
        inputs=inputs,
        hub_commits={file: commit for file, content in inputs.items() if (commit := hub_commit(Path(file), content))},
        packages=_package_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        seed=seed,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def device_description(device: str) -> dict[str, Any]:
    """Name and size of the device that a step ran on."""
    import torch

    kind = torch.device(device).type
    description: dict[str, Any] = {"type": kind, "processor": _processor(), "cores": os.cpu_count()}
    description["threads"] = torch.get_num_threads()
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(device)
        description |= {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
        # What float32 means there: PyTorch's default rounds the inputs of convolutions, and not those of products.
        description["tf32_convolutions"] = torch.backends.cudnn.allow_tf32
    else:
        description["name"] = description["processor"]
    return description

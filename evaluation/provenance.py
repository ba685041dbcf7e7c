# SPDX-License-Identifier: Apache-2.0
"""Where a record comes from: protocol, code, configuration, input files, packages and device."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae import OWN_PACKAGES, __version__
from dcae.benchmark.entries import Protocol, ProtocolEntry
from dcae.benchmark.record import Measured, Provenance
from dcae.files import content_hashes
from dcae.weights.hub import hub_commit

if TYPE_CHECKING:
    from evaluation.quality.distances import Quality

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch", "torchvision", "diffusers", "timm", "torch-fidelity", "clean-fid", "lpips", "open-clip-torch", "numpy",
    "pillow",
)  # fmt: skip


def input_hashes(*folders_or_files: Path | None) -> dict[str, str]:
    """Return the sha256 of each input file; a folder counts as the safetensors and JSON files directly in it."""
    return content_hashes(filter(None, folders_or_files))


def _git(*arguments: str) -> str | None:
    """Return the output of a git command in the repository; ``None`` where there is no git or no repository."""
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


@functools.cache
def sources_digest() -> str:
    """Return the sha256 (first 16 hex digits) of the project's Python files.

    It tells the code of two records apart and decides nothing.
    """
    digest = hashlib.sha256()
    for path in sorted(path for package in OWN_PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def described(protocol: ProtocolEntry) -> dict[str, Any]:
    """Return a protocol as records have it."""
    return {"name": protocol.name, **protocol.decisive()}


def additional_measured(
    protocols: list[Protocol], measured: dict[str, Quality], besides: dict[str, Any] | None = None
) -> dict[str, Measured]:
    """Return the values of additional protocols as records have them.

    Args:
        besides: settings that are the same for all of them, such as the sampler.
    """
    from evaluation.features.fingerprints import fingerprint

    return {
        each.name: Measured(
            protocol=described(each) | (besides or {}),
            protocol_fingerprint=fingerprint(each),
            values=measured[each.name].values,
            excluded=measured[each.name].excluded,
        )
        for each in protocols
    }


def provenance(
    *, command: str, config_digest: str, results_version: int, inputs: dict[str, str], seed: int, started: float
) -> Provenance:
    """Return everything that decided a record.

    Args:
        command: that made it.
        config_digest: of the configuration that decided it.
        results_version: of the code that made it.
        started: ``time.monotonic()`` at the beginning.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        git_commit=_git("rev-parse", "HEAD"),
        git_dirty=None if status is None else bool(status),
        command=command,
        config_digest=config_digest,
        results_version=results_version,
        code_digest=sources_digest(),
        inputs=inputs,
        hub_commits={file: commit for file, content in inputs.items() if (commit := hub_commit(Path(file), content))},
        packages=_package_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        seed=seed,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    for line in information.read_text(encoding="utf-8").splitlines() if information.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def device_description(device: str) -> dict[str, Any]:
    """Return name and size of the device that a step ran on."""
    import torch

    kind = torch.device(device).type
    description: dict[str, Any] = {"type": kind, "processor": _processor(), "cores": os.cpu_count()}
    description["threads"] = torch.get_num_threads()
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(device)
        description |= {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
        # PyTorch's default rounds the float32 inputs of convolutions to TF32, and not those of matrix products. Samples
        # are made in the protocol's sampling_precision.
        description["tf32_convolutions"] = torch.backends.cudnn.allow_tf32
    else:
        description["name"] = description["processor"]
    return description

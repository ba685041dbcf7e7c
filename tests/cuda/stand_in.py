# SPDX-License-Identifier: Apache-2.0
"""Builds the stand-in for CUDA's libraries, and counts on it how a piece of code uses the device."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = "libstand_in.so"
# Libraries of torch, and what they import that the stand-in has to give.
IMPORTING = ("libtorch_cuda.so", "libc10_cuda.so", "libtorch_python.so", "libtorch_cuda_linalg.so")
PREFIXES = ("__cuda", "cuda", "cublas", "cudnn")
NOT_SUPPORTED = 3000  # of cuDNN; its graphs are not there, so that torch takes the interface before them


def headers() -> Path | None:
    """Return the folder of CUDA's headers, which Triton brings along; ``None`` where torch has none."""
    triton = importlib.util.find_spec("triton")
    folder = Path(triton.origin).parent / "backends" / "nvidia" / "include" if triton else None
    return folder if folder and (folder / "cuda_runtime_api.h").is_file() else None


def missing() -> str | None:
    """Return why the stand-in cannot be built here, or ``None``."""
    import torch

    tools = [tool for tool in ("g++", "gcc", "nm") if shutil.which(tool) is None]
    if tools:
        return f"not installed: {', '.join(tools)}"
    if torch.version.cuda is None or torch.cuda.is_available():
        return "for an installation of PyTorch with CUDA on a machine without a GPU"
    try:
        return None if headers() else "Triton has no headers of CUDA"
    except ImportError:
        return "Triton is not installed"


def _symbols(path: Path, *options: str) -> list[str]:
    return subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout.splitlines()


def build(folder: Path) -> Path:
    """Compile the stand-in into a folder; return the library."""
    import torch

    libraries = Path(torch.__file__).parent / "lib"
    imported = {
        line.split()[-1].split("@")[0]
        for name in IMPORTING
        for line in _symbols(libraries / name, "-D", "--undefined-only")
    }
    subprocess.run(
        ["g++", "-O1", "-fPIC", "-std=c++17", "-w", f"-I{headers()}", "-c", HERE / "stand_in.cpp", "-o", "stand_in.o"],
        cwd=folder, check=True,
    )  # fmt: skip
    defined = {line.split()[-1] for line in _symbols(folder / "stand_in.o", "--defined-only")}
    stubs = sorted(name for name in imported - defined if name.startswith(PREFIXES))
    answers = {name: NOT_SUPPORTED if name.startswith("cudnnBackend") else 0 for name in stubs}
    functions = [f"int {name}(void) {{ return {value}; }}\n" for name, value in answers.items()]
    (folder / "stubs.c").write_text("".join(functions))
    subprocess.run(["gcc", "-fPIC", "-w", "-c", "stubs.c"], cwd=folder, check=True)
    subprocess.run(["g++", "-shared", "-o", LIBRARY, "stand_in.o", "stubs.o"], cwd=folder, check=True)
    (folder / "libcuda.so.1").symlink_to(LIBRARY)  # the driver, which torch opens by its name
    return folder / LIBRARY


def environment(library: Path) -> dict[str, str]:
    """Return the environment of a process that takes the library for CUDA."""
    changed = {"LD_PRELOAD": str(library), "LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(ROOT)}
    changed |= {"TORCH_CUDNN_V8_API_DISABLED": "1"}
    return {**os.environ, **changed, "OMP_NUM_THREADS": "1"}


# --- in such a process ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How often each name was counted, and the places of the project's code where the host waited for the device."""

    names: dict[str, int]
    waits: dict[str, int]

    def of(self, *words: str) -> int:
        """Return the number of what begins with the first word and has the others."""
        first, *others = words
        found = {name: n for name, n in self.names.items() if name.startswith(first)}
        return sum(n for name, n in found.items() if all(each in name for each in others))


class Device:
    """Counts what a call does on the device."""

    def __init__(self):
        self.library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self.waits: Counter[str] = Counter()
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(self._note)  # kept alive
        self.library.stand_in_on_wait(self._callback)

    def _note(self, why: bytes) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(ROOT))]
        own = [frame for frame in frames if not frame.filename.startswith((str(HERE), str(ROOT / ".venv")))]
        place = f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno}" if own else "elsewhere"
        self.waits[f"{place}: {why.decode()}"] += 1

    def __call__(self, call: Callable[[], object]) -> Counts:
        """Return the counts of a call."""
        self.library.stand_in_reset()
        self.waits.clear()
        call()
        with tempfile.NamedTemporaryFile("r") as file:
            self.library.stand_in_write(file.name.encode())
            rows = [line.rstrip("\n").split("\t", 1) for line in file]
        return Counts({name: int(n) for n, name in rows}, dict(self.waits))

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of training."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch


def _module_beside(name: str) -> ModuleType:
    """A module of this folder, by path, since another package is installed as ``tests``."""
    loader = SourceFileLoader(f"training_{name}", str(Path(__file__).with_name(f"{name}.py")))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """A training of a network of a few weights."""
    return _module_beside("toy")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """Trainings of autoencoders of a few thousand weights."""
    return _module_beside("tiny")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)

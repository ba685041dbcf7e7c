# SPDX-License-Identifier: Apache-2.0
"""Builds editable installs alone.

A wheel would lack ``Snakefile`` and ``config/``, and its packages ``evaluation`` and ``workflow`` would take the place
of other projects' of these names.
"""

from __future__ import annotations

from typing import NoReturn

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def build_wheel(*_: object) -> NoReturn:
    """End the build with the way to install the project."""
    raise SystemExit("dcae runs from its checkout: clone it, then make setup there, or pip install --editable .")


prepare_metadata_for_build_wheel = build_wheel  # pip asks for it first, before it downloads any dependency

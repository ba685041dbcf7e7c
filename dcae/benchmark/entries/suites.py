# SPDX-License-Identifier: Apache-2.0
"""Suite entries: rows that ``dcae profile-suite`` measures, from shapes alone."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from dcae.benchmark.entries.base import Entry
from dcae.benchmark.entries.diffusion import TextEncoder


class SuiteEntry(Entry):
    """Rows to measure the speed of: those of the paper's tables, autoencoders, and phases of their training.

    Entries are named as in ``config``, and the paper's rows as in ``config/published``.
    """

    protocol: str = Field(description="entry in config/protocols; --protocol overrides it")
    tables: list[int] = Field([], description="tables of the paper, all of whose rows are measured")
    diffusion: dict[str, str] = Field({}, description="the paper's name of a diffusion model: its entry")
    autoencoders: dict[str, str] = Field({}, description="the paper's name of an autoencoder: its entry")
    classes: dict[str, PositiveInt] = Field({}, description="number of classes of the paper's datasets; default: none")
    resolutions: dict[str, list[PositiveInt]] = Field({}, description="autoencoders to measure: resolutions in pixels")
    phases: dict[str, list[PositiveInt]] = Field(
        {}, description="autoencoders whose phases 1 and 2 are compared: resolutions in pixels"
    )
    architectures: dict[str, dict[str, Any]] = Field(
        {}, description="config of autoencoders whose entries only name released weights"
    )
    text_encoders: dict[str, TextEncoder] = Field(
        {}, description="the same for text encoders, by the entry of the diffusion model"
    )

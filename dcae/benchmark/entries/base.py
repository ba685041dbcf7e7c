# SPDX-License-Identifier: Apache-2.0
"""What every entry has: a name, a description, and a digest of what decides a result.

An entry's name is its file name. Fields listed in ``DESCRIPTIVE`` explain an entry and never decide a result; they are
left out of its digest, so that correcting a description makes nothing stale.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

DESCRIPTIVE = frozenset({"name", "description", "paper_name", "source", "licence", "choices"})


class Entry(BaseModel):
    """One YAML file. Unknown keys are errors; an entry never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(description="the file name without .yaml")
    description: str = ""
    source: str | None = Field(None, description="paper, upstream file or model card")
    licence: str | None = None
    choices: list[str] = Field([], description="fields whose values the paper leaves open and this project chose")

    def decisive(self) -> dict[str, Any]:
        """Every field that decides a result, with its defaults; fields that are ``None`` are left out."""
        return self.model_dump(mode="json", exclude=set(DESCRIPTIVE), exclude_none=True)


def digest(*entries: Entry | dict[str, Any] | str | int) -> str:
    """Sha256 (first 16 hex digits) of what decides a result in the given entries and values."""
    parts = [entry.decisive() if isinstance(entry, Entry) else entry for entry in entries]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Settings(BaseModel):
    """A group of fields within an entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

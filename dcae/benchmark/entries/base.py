# SPDX-License-Identifier: Apache-2.0
"""Base of all entries: name, description, choices, and the digest of the fields that decide a result.

An entry's name is its file name. Fields listed in ``DESCRIPTIVE`` explain an entry and never decide a result; they are
left out of its digest, so that correcting a description makes nothing stale.

``choices`` marks the values that no source gives and this project chose: path of a field to the reason. A path goes
down with dots (``config.block_out_channels``), to a phase by its name (``phases.low-resolution-full.steps``), and to
all phases with a star (``phases.*.steps``); a star alone stands for the entry as a whole. A benchmark marks its own
choices alike, a block under ``generation`` by its ``name`` (``generation.<name>.generation_images``).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

EVERYTHING = "*"
DESCRIPTIVE = frozenset(
    {
        "name",
        "description",
        "paper_name",
        "paper_datasets",
        "source",
        "licence",
        "extends",
        "choices",
        "gated",
        "restriction",
    }
)


class Settings(BaseModel):
    """A group of fields. Unknown keys are errors; numbers are finite; nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_no_numbers(cls, content: Any) -> Any:
        """Refuse what pydantic converts: true to 1, false to 0."""
        for name, field in cls.model_fields.items():
            value = content.get(field.alias or name) if isinstance(content, dict) else None
            given = value if isinstance(value, list) else [value]
            if any(isinstance(each, bool) for each in given) and not _takes_bool(field.annotation):
                raise ValueError(f"{name}: true and false are no values of this field")
        return content


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_bool, get_args(annotation)))


class WithChoices(Settings):
    """Fields of a file, and ``choices`` among them."""

    model_config = ConfigDict(populate_by_name=True)

    choices: dict[str, str] = Field(
        {}, description="paths of fields that the paper leaves open, with the reason for the value"
    )

    @model_validator(mode="after")
    def _choices_name_fields(self):
        unknown = [path for path in self.choices if not self.fields(path)]
        if unknown:
            raise ValueError(
                f"choices: {', '.join(unknown)}: no such field here; expected paths like steps, "
                "config.layers_per_block, phases.*.steps, phases.<name of a phase>.steps, or * for the whole file"
            )
        return self

    def fields(self, path: str) -> dict[str, Any]:
        """Return the fields that a path of ``choices`` names, as path (without stars) and value."""
        if path == EVERYTHING:
            return {EVERYTHING: None}
        found: dict[str, Any] = {"": self}
        for part in path.split("."):
            found = {f"{before}.{key}": value for before, each in found.items() for key, value in _inside(each, part)}
        return {key.removeprefix("."): value for key, value in found.items()}

    def chosen(self) -> list[tuple[str, Any, str]]:
        """Return path, value and reason of every field that ``choices`` marks, in file order, stars resolved.

        Values are as a YAML file has them; that of the path ``*`` is ``None``. A path without a star goes before one
        with a star that names the same field.
        """
        plain = TypeAdapter(Any)
        return [
            (name, plain.dump_python(value, mode="json", by_alias=True, exclude_unset=True), reason)
            for path, reason in self.choices.items()
            for name, value in self.fields(path).items()
            if name == path or name not in self.choices
        ]


class Entry(WithChoices):
    """One YAML file that describes one thing."""

    name: str = Field(description="file name without .yaml")
    description: str = ""
    source: str | None = Field(None, description="paper, upstream file or model card")
    licence: str | None = None
    extends: str | None = Field(None, description="entry that this one extends")

    def decisive(self) -> dict[str, Any]:
        """Return every field that decides a result, with defaults; fields that are ``None`` are left out."""
        return self.model_dump(mode="json", exclude=set(DESCRIPTIVE), exclude_none=True)


def _inside(value: Any, part: str) -> list[tuple[str, Any]]:
    """Return name and value of the fields that one part of a path, perhaps a star, matches within a value."""
    if isinstance(value, BaseModel):
        inside = {field.alias or name: getattr(value, name) for name, field in type(value).model_fields.items()}
    elif isinstance(value, list) and all(isinstance(each, Settings) and hasattr(each, "name") for each in value):
        inside = {each.name: each for each in value}
    else:
        inside = {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}
    return [(name, inside[name]) for name in (inside if part == EVERYTHING else [part]) if name in inside]


def digest(*entries: Entry | dict[str, Any] | str | int) -> str:
    """Return the sha256 (first 16 hex digits) of the decisive fields of entries, and of other values."""
    parts = [entry.decisive() if isinstance(entry, Entry) else entry for entry in entries]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

# SPDX-License-Identifier: Apache-2.0
"""Finds and reads entries; every mistake in a YAML file becomes a ``ConfigError`` that names file and field."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from dcae.benchmark.entries import ADAPTERS, Entry

REPOSITORY_CONFIG = Path(__file__).resolve().parents[2] / "config"


class ConfigError(ValueError):
    """A mistake in a configuration file: which file, which field, what is wrong, what is allowed."""


class UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML lets a later key silently replace an earlier one of the same name; here that is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                message = f"expected a name before the colon, got {key!r}"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ``ConfigError`` if there is no such file or no mapping in it."""
    try:
        content = yaml.load(Path(path).read_text(), Loader=UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, got {type(content).__name__}")
    return content


def _explain(error: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "(top level)"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) or error["type"] == "missing" else f", got {error['input']!r}"
    return f"  {field}: {message}{given}"


def validate(adapter: TypeAdapter, content: dict[str, Any], path: Path | str, allowed: str = "") -> Any:
    """Content as its typed model; every wrong field is listed in the ``ConfigError``."""
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        lines = [_explain(details) for details in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{path}:", *lines, *([allowed] if allowed else [])])) from None


def _allowed_fields(kind: str, content: dict[str, Any]) -> str:
    """The field names that an entry of this kind may have, for the error about a wrong one."""
    schema = ADAPTERS[kind].json_schema()
    variants = [schema["$defs"][option["$ref"].split("/")[-1]] for option in schema.get("oneOf", [])] or [schema]
    for variant in variants:
        properties = variant["properties"]
        if properties.get("kind", {}).get("const") == content.get("kind") or len(variants) == 1:
            return "  allowed fields: " + ", ".join(sorted(set(properties) - {"name"}))
    kinds = [variant["properties"]["kind"]["const"] for variant in variants]
    return "  allowed kinds: " + ", ".join(kinds)


class Config:
    """The entries under one or more config folders, read when asked for.

    Folders are searched in order; a name that stands in two of them (or with two endings) is an error, since nobody
    could tell which one a result came from.
    """

    def __init__(self, *folders: Path):
        unique = {Path(folder).resolve(): None for folder in (*folders, REPOSITORY_CONFIG)}
        self.folders = list(unique)
        self._entries: dict[tuple[str, str], Entry] = {}

    def files(self, kind: str) -> dict[str, list[Path]]:
        """Entry name to the files of that name."""
        found: dict[str, list[Path]] = {}
        for folder in self.folders:
            for path in sorted([*(folder / kind).glob("*.yaml"), *(folder / kind).glob("*.yml")]):
                found.setdefault(path.stem, []).append(path)
        return found

    def path(self, kind: str, name: str) -> Path:
        """The file of an entry that was found."""
        return self.files(kind)[name][0]

    def entry(self, kind: str, name: str) -> Entry:
        """The entry ``config/<kind>/<name>.yaml``.

        Raises:
            ConfigError: unknown name (with the nearest known ones), two files of that name, or a wrong field.
        """
        if (kind, name) not in self._entries:
            files = self.files(kind)
            if name not in files:
                near = difflib.get_close_matches(name, files, n=3) or sorted(files)
                raise ConfigError(
                    f"no entry {name!r} in {', '.join(str(folder / kind) for folder in self.folders)}; "
                    f"did you mean {' or '.join(near)}?"
                )
            if len(files[name]) > 1:
                places = " and ".join(map(str, files[name]))
                raise ConfigError(f"two entries of the name {name!r}: {places}; rename one")
            self._entries[kind, name] = read_entry(kind, files[name][0])
        return self._entries[kind, name]


def read_entry(kind: str, path: Path) -> Entry:
    """The entry in one file, named after the file."""
    content = read_yaml(path)
    if "name" in content:
        raise ConfigError(f"{path}:\n  name: an entry is named by its file; remove this field")
    return validate(ADAPTERS[kind], {**content, "name": Path(path).stem}, path, _allowed_fields(kind, content))

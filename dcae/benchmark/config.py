# SPDX-License-Identifier: Apache-2.0
"""Finds and reads entries; every mistake in a YAML file becomes a ``ConfigError`` that names file and field."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from dcae.benchmark.entries import ADAPTERS, Entry

SEED = "@seed"  # <entry>@seed<N> is the entry trained with another seed

# Fields that describe an entry, or place it in the paper's tables, belong to that entry alone.
NOT_INHERITED = ("name", "extends", "description", "source", "paper_name", "paper_datasets", "choices")
REPOSITORY_CONFIG = Path(__file__).resolve().parents[2] / "config"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # names are parts of paths, options and regular expressions
DEEPEST, MOST_NODES = 50, 100_000  # of a YAML file; a recipe has 5 levels, the largest benchmark 2,000 nodes


class ConfigError(ValueError):
    """A mistake in a configuration file. The message names the file, the field and the allowed values."""


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Loader that refuses values YAML 1.1 reads as others: a second key of one name, 010 (8), 1:30 (90), no (false)."""

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

    def construct_plain(self, node):
        """Return the value of a number or truth value that is written unambiguously."""
        text, kind = self.construct_scalar(node), node.tag.rsplit(":", 1)[1]
        if re.fullmatch(r"[-+]?0[\d_]+|.*:.*", text) or (kind == "bool" and text.lower() not in ("true", "false")):
            value = getattr(super(), f"construct_yaml_{kind}")(node)
            message = f"{text} would be read as {str(value).lower()}: write that, or quotes around a word"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return getattr(super(), f"construct_yaml_{kind}")(node)


for _kind in ("int", "float", "bool"):
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrictLoader.construct_plain)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises ``ConfigError`` if there is no such file or no mapping in it."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        _check_size(text)
        content = yaml.load(text, Loader=StrictLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, got {type(content).__name__}")
    return content


def _check_size(text: str) -> None:
    """Raise ``YAMLError`` for more levels or nodes than a file of entries has, each ``*alias`` counted as its content.

    Deep nesting overflows the C loader's stack; nested aliases unfold to any size.
    """
    sizes: dict[str, int] = {}
    opened: list[list[Any]] = []  # anchor and size of the collections around an event
    for event in yaml.parse(text, Loader=StrictLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append([event.anchor, 1])
            if len(opened) > DEEPEST:
                raise yaml.YAMLError(f"nested more than {DEEPEST} levels deep at line {event.start_mark.line + 1}")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor, MOST_NODES)  # unknown: an alias within its own anchor
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if opened:
            opened[-1][1] += size
            if opened[-1][1] > MOST_NODES:
                raise yaml.YAMLError(
                    f"more than {MOST_NODES:,} values, with aliases, at line {event.start_mark.line + 1}"
                )


def check_name(name: str, path: Path | str) -> str:
    """Return the name that a file gives to a benchmark or an entry.

    Raises:
        ConfigError: it holds more than letters, digits, ``.``, ``_`` and ``-``.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: {name!r} is no name: rename the file, to letters (a-z, A-Z), digits, '.', '_' and '-', "
            "a letter or digit first"
        )
    return name


def validate(adapter: TypeAdapter, content: dict[str, Any], path: Path | str) -> Any:
    """Return content as its typed model; the ``ConfigError`` lists every wrong field and the allowed ones."""
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        lines = [_explain(details, adapter) for details in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{path}:", *lines])) from None


def _explain(error: dict[str, Any], adapter: TypeAdapter) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"  {field}: no such field\n    allowed fields: {', '.join(_allowed_fields(error['loc'], adapter))}"
    if error["type"] == "union_tag_not_found":
        kinds = [group["properties"]["kind"]["const"] for group in _groups((*error["loc"], "kind"), adapter)]
        return f"  {field}: no kind\n    allowed kinds: {', '.join(kinds)}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) or error["type"] == "missing" else f", got {error['input']!r}"
    return f"  {field}: {message}{given}"


def _allowed_fields(place: tuple[str | int, ...], adapter: TypeAdapter) -> list[str]:
    return sorted({field for group in _groups(place, adapter) for field in group.get("properties", {})} - {"name"})


def _groups(place: tuple[str | int, ...], adapter: TypeAdapter) -> list[dict[str, Any]]:
    """Return the JSON schemas of the groups of fields that the last part of a place was looked for in."""
    schema = adapter.json_schema()
    groups = list(_alternatives(schema, schema))
    for part in place[:-1]:
        within = [
            inner
            for group in groups
            if (inner := group.get("properties", {}).get(part, group.get("items", group.get("additionalProperties"))))
        ]
        # A part that leads nowhere is the kind that pydantic chose from alternatives.
        groups = [each for inner in within for each in _alternatives(inner, schema)] or [
            group for group in groups if group.get("properties", {}).get("kind", {}).get("const") == part
        ]
    return groups


def _alternatives(node: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a JSON schema that a value at a node may follow, references resolved."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    inner = [*node.get("anyOf", []), *node.get("oneOf", [])]
    yield from (each for option in inner for each in _alternatives(option, schema)) if inner else [node]


class Config:
    """The entries under one or more config folders, read when asked for.

    Folders are searched in order; a name that stands in two of them (or with two endings) is an error, since nobody
    could tell which one a result came from.

    Args:
        repository: whether the repository's own folder is the last of them.
    """

    def __init__(self, *folders: Path, repository: bool = True):
        searched = (*folders, REPOSITORY_CONFIG) if repository else folders
        unique = {Path(folder).resolve(): None for folder in searched}
        self.folders = list(unique)
        self._entries: dict[tuple[str, str], Entry] = {}

    @functools.cache  # noqa: B019
    def files(self, kind: str) -> dict[str, list[Path]]:
        """Return entry names and the files of each name, as they were when first asked for."""
        found: dict[str, list[Path]] = {}
        for folder in self.folders:
            for path in sorted([*(folder / kind).glob("*.yaml"), *(folder / kind).glob("*.yml")]):
                found.setdefault(path.stem, []).append(path)
        return found

    def file(self, kind: str, name: str) -> Path:
        """Return the file of an entry. Raises ``ConfigError`` if there is none (with the nearest names) or two."""
        files = self.files(kind)
        if name not in files:
            near = difflib.get_close_matches(name, files, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"its files are the {len(files)} names to choose from"
            )
            raise ConfigError(
                f"no entry {name!r} in {', '.join(str(folder / kind) for folder in self.folders)}; {hint}"
            )
        if len(files[name]) > 1:
            places = " and ".join(map(str, files[name]))
            raise ConfigError(f"two entries of the name {name!r}: {places}; rename one")
        return files[name][0]

    def files_read(self) -> list[tuple[str, Path]]:
        """Return kind and file of every entry that has been asked for, and of those that they extend."""
        read = {(kind, split_seed(name)[0] if kind == "autoencoders" else name) for kind, name in self._entries}
        return [(kind, self.file(kind, name)) for kind, name in sorted(read)]

    def entry(self, kind: str, name: str) -> Entry:
        """Return the entry ``config/<kind>/<name>.yaml``.

        Raises:
            ConfigError: unknown name (with the nearest known ones), two files of that name, or a wrong field.

        ``<name>@seed<N>`` is an autoencoder of another seed.
        """
        if (kind, name) not in self._entries:
            if kind == "autoencoders" and SEED in name:
                self._entries[kind, name] = self._with_seed(*split_seed(name))
            else:
                self._entries[kind, name] = read_entry(kind, self.file(kind, name), self)
        return self._entries[kind, name]

    def _with_seed(self, name: str, seed: int | None) -> Entry:
        """Return an autoencoder's entry for another seed, which those below it and before it have as well."""
        entry = self.entry("autoencoders", name)
        changed: dict[str, Any] = {"name": f"{name}{SEED}{seed}"}
        if entry.start_from:
            other = f"{entry.start_from.autoencoder}{SEED}{seed}"
            changed["start_from"] = entry.start_from.model_copy(update={"autoencoder": other})
        if entry.kind == "space-to-channel":
            changed["autoencoder"] = f"{entry.autoencoder}{SEED}{seed}"
        return entry.model_copy(update=changed)


def split_seed(name: str) -> tuple[str, int | None]:
    """Return the entry in an autoencoder's name and its seed; ``None`` where it is the benchmark's.

    Raises:
        ConfigError: what follows ``@seed`` is no number.
    """
    entry, marked, seed = name.partition(SEED)
    if marked and not seed.isdecimal():
        raise ConfigError(f"{name!r}: expected a number after {SEED}")
    return entry, int(seed) if marked else None


def read_entry(kind: str, path: Path, config: Config | None = None) -> Entry:
    """Return the entry in one file, named after the file.

    Args:
        config: where an entry that it extends is looked up; by default around the file and in the repository

    Raises:
        ConfigError: naming the file, the field and the allowed values.
    """
    content, path = read_yaml(path), Path(path)
    if "name" in content:
        raise ConfigError(f"{path}:\n  name: an entry is named by its file; remove this field")
    return make_entry(
        kind, {**content, "name": check_name(path.stem, path)}, path, config or Config(path.resolve().parent.parent)
    )


def make_entry(kind: str, content: dict[str, Any], place: Path | str, config: Config) -> Entry:
    """Return the entry that some content describes.

    With ``extends: <name of another entry of this kind>`` only differences are given: mappings are merged, phases by
    their names, anything else is replaced, and ``null`` removes a field or a phase. Descriptions are not inherited;
    choices are, if their fields have the same values here.

    Args:
        place: the file that the content stands in, or words for it, for errors.
        config: where the other entry is looked up.

    Raises:
        ConfigError: naming the place, the field and the allowed values.
    """
    below = _extended(kind, content, place, config)
    base = config.entry(kind, str(content["extends"])) if below else None
    whole: dict[str, Any] = {}
    for each in (*reversed(below), content):
        whole = _merged({name: whole[name] for name in whole if name not in NOT_INHERITED}, each, place)
    entry = validate(ADAPTERS[kind], whole, place)
    if base is None:
        return entry
    inherited = {choice: reason for choice, reason in base.choices.items() if _same_values(entry, base, choice)}
    return entry.model_copy(update={"choices": inherited | entry.choices})


def read_benchmark(path: Path) -> dict[str, Any]:
    """Return the fields of a benchmark's file, those of the file that it extends included.

    That file is beside it or in the repository. As with entries, mappings are merged, lists are replaced, and ``null``
    removes a field; descriptions and choices are not inherited.

    Raises:
        ConfigError: no such file, or files that extend each other in a circle.
    """
    whole: dict[str, Any] = {}
    for content in reversed(benchmark_files(path).values()):
        content.pop("extends", None)
        whole = _merged({name: whole[name] for name in whole if name not in NOT_INHERITED}, content, path)
    return whole


def benchmark_files(path: Path) -> dict[Path, dict[str, Any]]:
    """Return a benchmark's file and those that it extends, nearest first, with their fields; as ``read_benchmark``."""
    path = Path(path)
    contents = {path: read_yaml(path)}
    last = path
    while (name := contents[last].get("extends")) is not None:
        beside = path.parent / f"{name}.yaml"
        last = beside if beside.is_file() else REPOSITORY_CONFIG / beside.name
        if last in contents:
            circle = " -> ".join(each.stem for each in (*contents, last))
            raise ConfigError(f"{path}:\n  extends: benchmarks extend each other in a circle: {circle}")
        try:
            contents[last] = read_yaml(last)
        except ConfigError as error:
            raise ConfigError(f"{path}:\n  extends: {error}") from None
    return contents


# --- entries that say only how they differ from another ---


def _extended(kind: str, content: dict[str, Any], place: Path | str, config: Config) -> list[dict[str, Any]]:
    """Return the contents that some content extends, nearest first."""
    found, names = [], []
    while content.get("extends") is not None:
        name = str(content["extends"])
        if name in names:
            circle = " -> ".join([*names, name])
            raise ConfigError(f"{place}:\n  extends: entries extend each other in a circle: {circle}")
        names.append(name)
        try:
            content = read_yaml(config.file(kind, name))
        except ConfigError as error:
            raise ConfigError(f"{place}:\n  extends: {error}") from None
        found.append(content)
    return found


def _merged(below: dict[str, Any], above: dict[str, Any], place: Path | str) -> dict[str, Any]:
    if not below:
        return above
    result = dict(below)
    for field, value in above.items():
        if value is None:
            result.pop(field, None)
        elif isinstance(value, dict) and isinstance(below.get(field), dict):
            result[field] = _merged(below[field], value, place)
        elif field == "phases" and isinstance(value, dict):
            result[field] = _merged_phases(below.get(field, []), value, place)
        else:
            result[field] = value
    return result


def _merged_phases(below: list[dict[str, Any]], above: dict[str, Any], place: Path | str) -> list[dict[str, Any]]:
    """Return the phases merged with a mapping from their names to changes; null removes a phase."""
    names = [phase["name"] for phase in below]
    unknown = sorted(set(above) - set(names))
    if unknown:
        raise ConfigError(f"{place}:\n  phases: {', '.join(unknown)}: no such phase in the recipe it extends: {names}")
    kept = [phase for phase in below if above.get(phase["name"], {}) is not None]
    return [_merged(phase, above.get(phase["name"], {}), place) for phase in kept]


def _same_values(entry: Entry, base: Entry, choice: str) -> bool:
    """True if a choice of the base names fields of the entry that have the same values as in the base."""
    here, there = entry.fields(choice), base.fields(choice)
    return bool(here) and all(name in there and there[name] == value for name, value in here.items())

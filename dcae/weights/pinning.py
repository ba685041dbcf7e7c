# SPDX-License-Identifier: Apache-2.0
"""Pins an entry's released weights: writes the hub's current commit and the sha256 into the entry's file.

The rest of the file, comments included, stays unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dcae.benchmark.config import ConfigError, read_entry
from dcae.benchmark.entries import Pretrained
from dcae.benchmark.record import write_atomically
from dcae.weights.hub import PICKLED, USUAL_NAMES

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FIELD = "pretrained"


class PinError(ValueError):
    """An entry cannot be pinned."""


class HubUnreachable(ConnectionError):
    """There is no way to the hub from here, for any entry."""


@dataclass(frozen=True)
class Pin:
    """Commit and sha256 of one ``pretrained`` field; ``sha256`` is ``None`` if it covers several files."""

    id: str
    revision: str
    sha256: str | None


def pin_entry(kind: str, path: Path, api: HfApi) -> list[Pin]:
    """Write the hub's current commit and sha256 into every ``pretrained`` of an entry's file.

    A revision that is a commit is kept and its sha256 added; any other, such as a branch, is resolved.

    Args:
        kind: folder under ``config``.
        path: of the entry.
        api: of the hub.

    Returns:
        The pins written; empty for an entry without hub weights in its own file.

    Raises:
        PinError: the repository is unknown to the hub or cannot be read; the file stays unchanged.
        HubUnreachable: there is no network.
        ConfigError: the file is wrong.
    """
    path = Path(path)
    read_entry(kind, path)
    text = path.read_text(encoding="utf-8")
    pins = []
    # From last to first, since an insertion moves everything after it.
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    own = {key.value: value for key, value in root.value}.get(FIELD)
    for node in reversed(list(_pretrained(root))):
        given = Pretrained(**{key.value: value.value for key, value in node.value})
        is_file = Path(given.id).suffix in (".safetensors", *PICKLED)
        if is_file or not HUB_ID.fullmatch(given.id) or Path(given.id).exists():
            continue
        found = _resolved(given, api, path)
        if node is not own:  # a text encoder, whose files transformers reads
            found = replace(found, sha256=None)
        text = _with(text, node, {"revision": found.revision, "sha256": found.sha256})
        pins.insert(0, found)
    if pins:
        _write_checked(kind, path, text)
    return pins


def _pretrained(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Yield every mapping named ``pretrained`` with an id, in the order of the file."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if (
            key.value == FIELD
            and isinstance(value, yaml.MappingNode)
            and "id" in {each.value for each, _ in value.value}
        ):
            yield value
        else:
            yield from _pretrained(value)


def _resolved(given: Pretrained, api: HfApi, path: Path) -> Pin:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    try:
        info = api.model_info(given.id, revision=given.revision, files_metadata=True)
    except (HTTPError, ConnectionError, HFValidationError, OSError) as error:
        unanswered = isinstance(error, HTTPError | ConnectionError) and not isinstance(error, HfHubHTTPError)
        if unanswered:
            raise HubUnreachable(f"{path}: the hub cannot be reached ({error}); pinning needs a network") from None
        raise PinError(
            f"{path}: {given.id} cannot be looked up on the hub: {error} (if its page asks to accept a licence, do so "
            "and run `hf auth login` before)"
        ) from error
    return Pin(given.id, info.sha, _sha256(given, info))


def _sha256(given: Pretrained, info: ModelInfo) -> str | None:
    """Return the sha256 of the file that ``hub.find`` would choose."""
    folder = f"{given.subfolder}/" if given.subfolder else ""
    files = {each.rfilename.removeprefix(folder): each for each in info.siblings if each.rfilename.startswith(folder)}
    wanted = [given.file] if given.file else [*USUAL_NAMES]
    found = [files[name] for name in wanted if name in files]
    if not found and not given.file:
        found = [each for name, each in files.items() if name.endswith(".safetensors") and "/" not in name]
    return found[0].lfs.sha256 if len(found) == 1 and found[0].lfs else None


def _with(text: str, node: yaml.MappingNode, fields: dict[str, str | None]) -> str:
    """Return the text with fields of a mapping set; those that are ``None`` stay unchanged."""
    here = {key.value: value for key, value in node.value}
    set_to = {name: _as_yaml(value) for name, value in fields.items() if value is not None}
    changes = [
        (here[name].start_mark.index, here[name].end_mark.index, value)
        for name, value in set_to.items()
        if name in here
    ]
    between = ", " if node.flow_style else "\n" + " " * node.value[0][0].start_mark.column
    added = "".join(f"{between}{name}: {value}" for name, value in set_to.items() if name not in here)
    end = node.value[-1][1].end_mark.index
    for start, stop, new in sorted([*changes, (end, end, added)], reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _as_yaml(value: str) -> str:
    """Quote a digest of digits only, which YAML would read as a number."""
    return value if yaml.safe_load(value) == value else f'"{value}"'


def _write_checked(kind: str, path: Path, text: str) -> None:
    """Write the new text if it is a valid entry, and restore the file otherwise."""
    before = path.read_text(encoding="utf-8")
    write_atomically(path, text)
    try:
        read_entry(kind, path)
    except ConfigError as error:
        write_atomically(path, before)
        raise PinError(
            f"{path}: cannot be rewritten, so that pinned fields have to be entered by hand: {error}"
        ) from error

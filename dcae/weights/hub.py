# SPDX-License-Identifier: Apache-2.0
"""Finds released weights in a folder, as a file, or by hub id; safetensors, never a pickle.

A hub id is looked up under ``weights_dir`` (``config/weights.yaml``) first, so that a machine without a network needs
no changed entry: ``weights/owner/name``. Then it is looked up in the hub's cache and downloaded. A file is looked up
from the current directory, then under ``weights_dir``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dcae.benchmark.entries import Pretrained
from dcae.files import sha256
from dcae.weights.catalogue import WeightsError, weights_dir

CONFIG = "config.json"
COMMIT = re.compile(r"[0-9a-f]{40}")
DOWNLOADS = Path(".cache") / "huggingface" / "download"  # within ``hf download --local-dir``
USUAL_NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors")  # of diffusers; of the DC-AE authors
PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
CONVERSION = "safetensors.torch.save_file(torch.load(path, weights_only=True), new_path)"


def released_file(model: Any) -> Path | None:
    """Return the file of the released weights that were loaded into a model; ``None`` for any other weights."""
    return getattr(model, "released_file", None)  # a user's own class need not have it


def weights_sha256(model: Any) -> str | None:
    """Return the sha256 of ``released_file``; ``None`` for any other weights."""
    file = released_file(model)
    return sha256(file) if file else None


def find(owner: str, pretrained: Pretrained, conversion: str = CONVERSION) -> Path:
    """Return the file of released weights, downloaded if necessary, after verifying its sha256 if the entry has one.

    Args:
        owner: kind and name of the entry, for errors.
        pretrained: of the entry.
        conversion: how to convert a pickle, for errors.

    Raises:
        WeightsError: id, folder or file is missing, or the content differs; names the entry and a remedy.
    """
    path = Path(pretrained.id)
    if path.suffix in (".safetensors", *PICKLED):
        path = path if path.is_file() else weights_dir() / path
        if not path.is_file():
            for pickled in filter(Path.is_file, map(path.with_suffix, PICKLED)):
                _refuse_pickle(owner, pickled, conversion)
            remedy = f"; get {pretrained.download} and convert it: {conversion}" if pretrained.download else ""
            raise WeightsError(f"{owner}: pretrained.id: {path}: no such file{remedy}")
        _refuse_pickle(owner, path, conversion)
    else:
        path = _file_in(owner, pretrained, _root(owner, pretrained) / (pretrained.subfolder or ""), conversion)
    if pretrained.sha256 and (actual := sha256(path)) != pretrained.sha256:
        raise WeightsError(
            f"{path} has sha256 {actual}, {owner} expects {pretrained.sha256}: a partial download or another file; "
            "remove it and get it again, or correct pretrained.sha256"
        )
    return path


def find_config(owner: str, pretrained: Pretrained) -> Path:
    """Return the ``config.json`` of released weights, with or without the weights; arguments as for ``find``.

    Raises:
        WeightsError: id, folder or file is missing; names the entry and a remedy.
    """
    path = Path(pretrained.id)
    place = path.parent if path.suffix == ".safetensors" else _root(owner, pretrained, weights=False)
    config = place / (pretrained.subfolder or "") / CONFIG
    if not config.is_file():
        raise WeightsError(f"{owner}: no {CONFIG} in {config.parent}; it defines the architecture of released weights")
    return config


def hub_commit(path: Path, content: str) -> str | None:
    """Return the commit of the hub repository that a file came from; ``None`` if unknown.

    The hub's cache has it in the path, and ``hf download --local-dir`` stores it with the sha256 of large files: a file
    that was replaced since then is not of that commit.

    Args:
        path: of the file.
        content: its sha256.
    """
    path = Path(path).absolute()
    if "snapshots" in path.parts[:-1]:
        after = path.parts[path.parts.index("snapshots") + 1]
        return after if COMMIT.fullmatch(after) else None
    for folder in path.parents:
        noted = folder / DOWNLOADS / path.relative_to(folder).with_name(f"{path.name}.metadata")
        if noted.is_file():
            commit, etag, *_ = [*noted.read_text(encoding="utf-8").splitlines(), "", ""]
            replaced = len(etag) == len(content) and etag != content
            return commit if COMMIT.fullmatch(commit) and not replaced else None
    return None


def folder_here(pretrained: Pretrained) -> Path | None:
    """Return the folder of ``pretrained.id``, as it is or under ``weights_dir``; ``None`` if there is neither."""
    places = (Path(pretrained.id), weights_dir() / pretrained.id)
    return next((place for place in places if place.is_dir()), None)


def _root(owner: str, pretrained: Pretrained, weights: bool = True) -> Path:
    """Return the folder of ``pretrained.id``."""
    here = folder_here(pretrained)
    return here or _downloaded(owner, pretrained, weights_dir() / pretrained.id, weights)


def _refuse_pickle(owner: str, path: Path, conversion: str) -> None:
    if path.suffix in PICKLED:
        raise WeightsError(
            f"{owner}: {path} is a pickle, which can run any code when it is opened; only safetensors is read. "
            f"Convert it: {conversion}"
        )


def _file_in(owner: str, pretrained: Pretrained, place: Path, conversion: str) -> Path:
    if pretrained.file:
        _refuse_pickle(owner, place / pretrained.file, conversion)
        if not (place / pretrained.file).is_file():
            raise WeightsError(f"{owner}: pretrained.file: no {pretrained.file} in {place}")
        return place / pretrained.file
    found = [place / name for name in USUAL_NAMES if (place / name).is_file()] or sorted(place.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise WeightsError(f"{owner}: {place} holds {names}; name one of them in pretrained.file")
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        _refuse_pickle(owner, path, conversion)
    raise WeightsError(
        f"{owner}: no safetensors in {place}; expected {' or '.join(USUAL_NAMES)}, or name the file in "
        f"pretrained.file. If only a pickle is released, convert it, and give the result as pretrained.id: {conversion}"
    )


def _downloaded(owner: str, pretrained: Pretrained, kept: Path, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    names = [CONFIG, *(([pretrained.file] if pretrained.file else USUAL_NAMES) if weights else [])]
    patterns = [str(Path(pretrained.subfolder or "") / name) for name in names]
    try:
        return Path(snapshot_download(pretrained.id, revision=pretrained.revision, allow_patterns=patterns))
    except (OSError, HFValidationError) as error:
        revision = f" --revision {pretrained.revision}" if pretrained.revision else ""
        part = f" --include '{pretrained.subfolder}/*'" if pretrained.subfolder else ""
        raise WeightsError(
            f"{owner}: the weights of {pretrained.id} are neither in {kept} nor to be had from the hub: {error}\n"
            "Get them where there is a network, and put them there:\n"
            f"  hf download {pretrained.id}{revision}{part} --local-dir {kept}\n"
            f"(if the page of {pretrained.id} asks to accept a licence, do so and run `hf auth login` before). Or give "
            "another folder as pretrained.id, or bring the cache of the hub along (HF_HOME)"
        ) from error

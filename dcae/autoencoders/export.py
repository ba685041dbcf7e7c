# SPDX-License-Identifier: Apache-2.0
"""Exports a trained autoencoder as a folder in diffusers' layout with a model card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dcae.autoencoders import folder
from dcae.autoencoders.dc_ae_config import not_for_diffusers
from dcae.benchmark.entries import AutoencoderFields
from dcae.files import temporary_beside

CARD = "README.md"


class ExportError(RuntimeError):
    """The autoencoder or the target folder does not allow an export."""


def require_exportable(entry: AutoencoderFields) -> None:
    """Raise ``ExportError`` if no diffusers class can hold an autoencoder; names the reason and an alternative."""
    if entry.kind == "space-to-channel":
        reason = f"no class of diffusers rearranges latents after another autoencoder; export {entry.autoencoder}"
    elif entry.kind == "python":
        reason = f"its architecture is custom code, {entry.factory}, which diffusers does not have"
    elif entry.kind == "dc-ae" and not_for_diffusers(entry):
        reason = f"{not_for_diffusers(entry)}; dcae.autoencoders.load opens its folder as it is"
    else:
        return
    raise ExportError(f"autoencoder {entry.name} cannot be exported: {reason}")


def export_folder(source: Path, output: Path, card: str) -> None:
    """Copy a trained autoencoder byte for byte, add its model card, and check that diffusers opens the copy.

    Args:
        source: folder of the trained autoencoder.
        output: folder to create; renamed into place once complete.
        card: text of the model card.

    Raises:
        ExportError: the output exists, or diffusers misses weights or finds unexpected ones.
    """
    if output.exists():
        raise ExportError(f"{output} exists; remove it, or give another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(output)
    try:
        temporary.mkdir()
        for name in (folder.CONFIG, folder.WEIGHTS):
            shutil.copyfile(source / name, temporary / name)
        (temporary / CARD).write_text(card, encoding="utf-8")
        _check_opens(temporary)
        os.rename(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_opens(path: Path) -> None:
    import diffusers

    name = folder.read_config(path)["_class_name"]
    _, loading = getattr(diffusers, name).from_pretrained(path, use_safetensors=True, output_loading_info=True)
    problems = [f"{kind.replace('_', ' ')}: {found}" for kind, found in loading.items() if found]
    if problems:
        raise ExportError(f"diffusers' {name} does not open {path}: {'; '.join(problems)}")

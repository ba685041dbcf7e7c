# SPDX-License-Identifier: Apache-2.0
"""``dcae compare``: autoencoders on a user's own pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import dcae
from dcae.benchmark import Config, ConfigError, read_entry
from workflow.commands import options

EXIT_INCOMPLETE = 1


def compare(
    images: Annotated[str, typer.Option(help="folder of pictures, or zip file; sub-folders are looked into")],
    autoencoders: Annotated[str, typer.Option(help="entries or YAML files, A,B,C; A=FOLDER for weights trained here")],
    resolution: Annotated[int, typer.Option(min=1, help="pixels per side of the centre crop")] = 512,
    output: Annotated[Path, typer.Option(help="folder to write")] = Path("comparison"),
    protocol: Annotated[str, typer.Option(help="entry in config/protocols")] = "dc-ae",
    shown: Annotated[int, typer.Option(min=0, help="pictures to show at most, the worst first")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 4,
) -> None:
    """Compare autoencoders on your own pictures: a page with tables and all pictures, the worst first.

    Values that cannot be measured are left out and named. The exit status is 1 if an autoencoder was left out.
    """
    folder = _pictures(images)
    config = Config()
    contenders = _contenders(autoencoders, config)
    chosen = config.entry("protocols", protocol)
    if chosen.kind != "quality":
        raise ConfigError(f"--protocol: {protocol!r} is a protocol of kind {chosen.kind}, expected quality")
    from evaluation.comparison.compare import compare as run
    from evaluation.comparison.compare import write_comparison
    from evaluation.provenance import device_description

    device = options.device()
    _make(output)
    command = " ".join(["dcae", *sys.argv[1:]])
    found = run(folder, contenders, chosen, resolution, config, device, batch_size, shown, command=command)
    footer = {"dcae": dcae.__version__, "Device": str(device_description(device)["name"]), "Command": command}
    page, *files = write_comparison(found, output, footer)
    print(next(file for file in files if file.name == "reconstruction.md").read_text(encoding="utf-8"))
    print(f"{page}: open it in a browser; {len(files)} more files in {output}")
    if found.left_out:
        raise typer.Exit(EXIT_INCOMPLETE)


def _pictures(text: str) -> Path:
    """Return the folder or zip file of ``--images``."""
    from dcae.data.storage.archives import is_there

    path = Path(text.strip())
    if not text.strip():
        raise ConfigError("--images: is empty; name a folder of pictures (. is the current one)")
    if path.is_file() and path.suffix.lower() != ".zip":
        raise ConfigError(f"--images: {path} is a file; name the folder that it is in, or a zip file")
    if not is_there(path):
        raise ConfigError(f"--images: {path}: no such folder or zip file")
    return path


def _make(output: Path) -> None:
    """Make the folder to write before anything is measured."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not os.access(output, os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written as a folder ({error}); name another") from error


def _contenders(text: str, config: Config):
    """Return the entries that a list like ``a,b=folder,c.yaml`` names, each once."""
    from evaluation.comparison.compare import Contender

    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, folder = part.partition("=")
        is_file = Path(name).suffix in (".yaml", ".yml")
        entry = read_entry("autoencoders", Path(name)) if is_file else config.entry("autoencoders", name)
        if entry.name in found:
            raise ConfigError(f"--autoencoders: {entry.name} is named twice")
        found[entry.name] = Contender(entry, Path(folder) if folder else None)
    if not found:
        raise ConfigError("--autoencoders: name at least one entry of config/autoencoders")
    return list(found.values())

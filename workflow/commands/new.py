# SPDX-License-Identifier: Apache-2.0
"""``dcae new``: the file of a new autoencoder, like another entry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from dcae.benchmark import Config, ConfigError, write_atomically
from dcae.benchmark.config import check_name
from dcae.benchmark.entries import DESCRIPTIVE


def new(
    name: Annotated[str, typer.Argument(help="name of the new autoencoder: letters, digits, '.', '_' and '-'")],
    like: Annotated[str, typer.Option(help="entry in config/autoencoders that it begins as")],
    folder: Annotated[Path, typer.Option(help="folder to write NAME.yaml into")] = Path(),
) -> None:
    """Write the entry of a new autoencoder, which extends another one, with every field of that one to change.

    `dcae run BENCHMARK --with NAME.yaml` then measures it beside the autoencoders of a benchmark.
    """
    config, path = Config(), folder / f"{name}.yaml"
    check_name(name, path)
    other = config.entry("autoencoders", like)
    if name in config.files("autoencoders"):
        raise ConfigError(f"{name}: is an entry already, {config.file('autoencoders', name)}; choose another name")
    if path.exists():
        raise ConfigError(f"{path}: is there already; choose another name or --folder")
    fields = other.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=set(DESCRIPTIVE))
    lines = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=110).splitlines()
    text = [
        f"# {name} is {like} but for the fields that are given here.",
        f"extends: {like}",
        f"description: like {like}",
        "",
        f"# The fields of {like}. Change a value and remove its '# '; null removes a field.",
        *(f"# {line}" for line in lines),
    ]
    write_atomically(path, "\n".join(text) + "\n")
    print(f"{path}: change what differs from {like}, then dcae run BENCHMARK --with {path}")

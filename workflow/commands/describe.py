# SPDX-License-Identifier: Apache-2.0
"""``dcae describe``: an entry's shape, size and source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Config, ConfigError, read_entry
from dcae.benchmark.entries import ADAPTERS, Entry


def _find(name: str) -> tuple[str, Entry]:
    """Return kind and entry of ``kind/name``, of a path, or of a name that is in one folder only."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        kind = path.resolve().parent.name
        if kind not in ADAPTERS:
            raise ConfigError(f"{path}: expected a file in a folder named {', '.join(ADAPTERS)}")
        return kind, read_entry(kind, path)
    config = Config()
    kind, _, short = name.rpartition("/")
    kinds = [kind] if kind else [each for each in ADAPTERS if short in config.files(each)]
    if kind and kind not in ADAPTERS:
        raise ConfigError(f"unknown kind of entry {kind!r}; known: {', '.join(ADAPTERS)}")
    if len(kinds) != 1:
        raise ConfigError(
            f"{name!r} is in {kinds or 'no folder'}; give it as kind/name, for example autoencoders/{short}"
        )
    return kinds[0], config.entry(kinds[0], short)


def _about_autoencoder(entry: Entry, resolution: int) -> dict[str, object]:
    """Return shape, parameters and cost; the shape alone where the rest is in a ``config.json`` that is not here."""
    from dcae.weights.catalogue import WeightsError
    from evaluation.efficiency.cost import describe_autoencoder

    restrictions = {"gated": "yes" if entry.gated else None, "restriction": entry.restriction}
    try:
        found = describe_autoencoder(entry, resolution)
    except WeightsError as error:
        side = resolution // entry.spatial_compression
        shape = [entry.latent_channels, side, side]
        found = {"latent_shape": shape, "parameters": "unknown", "why": str(error)}
    return found | {name: value for name, value in restrictions.items() if value}


def describe(
    entry: Annotated[str, typer.Argument(help="kind/name, for example autoencoders/dc-ae-f32c32, or a file")],
    resolution: Annotated[int, typer.Option(min=1, help="pixels per side, for latent shape and GMACs")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Describe an entry: for an autoencoder its latent shape, parameters, GMACs, source and licence."""
    kind, found = _find(entry)
    description = {"entry": f"{kind}/{found.name}", "description": found.description}
    if kind == "autoencoders":
        description |= _about_autoencoder(found, resolution)
    else:
        description |= found.decisive()
    description |= {"source": found.source, "licence": found.licence}
    if as_json:
        print(json.dumps(description, indent=1))
        return
    for field, value in description.items():
        print(f"{field:24} {f'{value:,}' if isinstance(value, int) else value}")

# SPDX-License-Identifier: Apache-2.0
"""Released weights of a DC-AE: found on the hub, in a folder or as a file; in the original or in diffusers' layout."""

from __future__ import annotations

from pathlib import Path

from dcae.autoencoders import folder
from dcae.autoencoders.dc_ae import DCAE
from dcae.autoencoders.dc_ae_config import difference
from dcae.autoencoders.original_layout import from_original, is_original, original_shapes
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DCAEEntry
from dcae.weights.catalogue import WeightsError
from dcae.weights.hub import find

NO_SCALE = (None, 1.0)  # what a config.json says where nobody set a scale


def read_released(entry: DCAEEntry, autoencoder: DCAE) -> None:
    """Load what the entry names under ``pretrained`` into its autoencoder, in place.

    Every name and shape is checked, and the ``config.json`` beside weights in diffusers' layout. The latent scale comes
    from the entry: neither the weights nor the original layout tell it, and two released models differ in nothing else.
    Only where the entry gives none it is taken from a ``config.json`` of diffusers.

    Raises:
        WeightsError: no such weights, or they are not the entry's; names the file and what differs.
        ConfigError: the latent scale is not known from anywhere.
    """
    path = autoencoder.released_file = find(f"autoencoder {entry.name}", entry.pretrained)
    shapes = folder.read_shapes(path)
    original = is_original(shapes)
    if original is None:
        raise WeightsError(
            f"{path} holds no DC-AE: expected the names of the original layout (encoder.project_in, …) or those of "
            f"AutoencoderDC (encoder.conv_in, …), got {', '.join(sorted(shapes)[:3]) or 'no tensors'}"
        )
    config = path.with_name(folder.CONFIG)
    if original:
        try:
            expected = original_shapes(autoencoder)
        except ValueError as error:
            raise WeightsError(f"autoencoder {entry.name} cannot have the weights in {path}: {error}") from error
        folder.compare(path, shapes, expected)
        _require_scale(entry, f"{path} is in the original layout, which does not tell it")
        tensors = from_original(folder.read_tensors(path), autoencoder)
        autoencoder.load_state_dict(tensors, strict=False)  # compared above
    elif config.is_file():
        stored = folder.read_config(path.parent)
        other = difference(stored, entry)
        if other:
            raise WeightsError(f"{config} is of another autoencoder: {other}")
        _take_scale(entry, autoencoder, stored, config)
        folder.read_file(path, autoencoder)
    else:
        _require_scale(entry, f"there is no {folder.CONFIG} beside {path} to take it from")
        folder.read_file(path, autoencoder)


def _require_scale(entry: DCAEEntry, why: str) -> None:
    if entry.latent_scale is None and entry.recipe is None:  # a training measures it
        raise ConfigError(f"autoencoder {entry.name}: latent_scale is missing: {why}")


def _take_scale(entry: DCAEEntry, autoencoder: DCAE, stored: dict, config: Path) -> None:
    """Released weights of ``in`` and ``mix`` are told apart by their scale alone, so a wrong one is an error."""
    if entry.latent_scale is None:
        folder.take_latent_statistics(autoencoder, stored, config)
        return
    scale = stored.get("scaling_factor")
    if scale not in (*NO_SCALE, entry.latent_scale):
        raise WeightsError(
            f"{config}: scaling_factor is {scale}, but latent_scale of autoencoder {entry.name} is "
            f"{entry.latent_scale}: either these are the weights of another model, or the entry is wrong (without a "
            "latent_scale it takes the file's)"
        )

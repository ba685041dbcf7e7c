# SPDX-License-Identifier: Apache-2.0
"""Released weights of a DC-AE: found on the hub, in a folder or as a file; in the original or in diffusers' layout."""

from __future__ import annotations

from pathlib import Path

from dcae.autoencoders import folder
from dcae.autoencoders.dc_ae import DCAE
from dcae.autoencoders.dc_ae_config import difference
from dcae.autoencoders.original_layout import from_original, is_original, original_shapes
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DCAEEntry, Pretrained
from dcae.files import sha256
from dcae.weights import WeightsError

USUAL = (folder.WEIGHTS, "model.safetensors")  # of diffusers; of the original code
PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
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
    path = find(entry)
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


# --- where the weights lie ---


def find(entry: DCAEEntry) -> Path:
    """The file of the entry's released weights, downloaded if need be, its sha256 verified if the entry has one.

    Raises:
        WeightsError: no such id, folder or file, or another content; names the entry and what to do.
    """
    pretrained = entry.pretrained
    path = Path(pretrained.id)
    if path.suffix in (".safetensors", *PICKLED):
        _refuse_pickle(entry, path)
        if not path.is_file():
            raise WeightsError(f"autoencoder {entry.name}: pretrained.id: {path}: no such file")
    else:
        root = path if path.is_dir() else _downloaded(entry, pretrained)
        path = _file_in(entry, pretrained, root / (pretrained.subfolder or ""))
    if pretrained.sha256 and (actual := sha256(path)) != pretrained.sha256:
        raise WeightsError(
            f"{path} has sha256 {actual}, autoencoder {entry.name} expects {pretrained.sha256}: a partial download or "
            "another file; remove it and get it again, or correct pretrained.sha256"
        )
    return path


def _refuse_pickle(entry: DCAEEntry, path: Path) -> None:
    if path.suffix in PICKLED:
        raise WeightsError(
            f"autoencoder {entry.name}: {path} is a pickle, which can run any code when it is opened; only safetensors "
            "is read. Convert it: safetensors.torch.save_file(torch.load(path, weights_only=True), new_path)"
        )


def _file_in(entry: DCAEEntry, pretrained: Pretrained, place: Path) -> Path:
    if pretrained.file:
        _refuse_pickle(entry, place / pretrained.file)
        if not (place / pretrained.file).is_file():
            raise WeightsError(f"autoencoder {entry.name}: pretrained.file: no {pretrained.file} in {place}")
        return place / pretrained.file
    found = [place / name for name in USUAL if (place / name).is_file()] or sorted(place.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise WeightsError(f"autoencoder {entry.name}: {place} holds {names}; name one of them in pretrained.file")
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        _refuse_pickle(entry, path)
    raise WeightsError(
        f"autoencoder {entry.name}: no safetensors in {place}; expected {' or '.join(USUAL)}, or name the file in "
        "pretrained.file"
    )


def _downloaded(entry: DCAEEntry, pretrained: Pretrained) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    names = [folder.CONFIG, *([pretrained.file] if pretrained.file else USUAL)]
    patterns = [str(Path(pretrained.subfolder or "") / name) for name in names]
    try:
        return Path(snapshot_download(pretrained.id, revision=pretrained.revision, allow_patterns=patterns))
    except (OSError, HFValidationError) as error:
        revision = f" at revision {pretrained.revision}" if pretrained.revision else ""
        raise WeightsError(
            f"autoencoder {entry.name}: pretrained.id {pretrained.id}{revision} is no folder here, and could not be "
            f"had from the hub: {error}\nWithout a network, run `hf download {pretrained.id}` where there is one, and "
            "give that folder as pretrained.id or bring its cache along (HF_HOME)"
        ) from error

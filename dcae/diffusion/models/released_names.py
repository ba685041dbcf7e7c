# SPDX-License-Identifier: Apache-2.0
"""Names of a denoiser's weights in released layouts.

- The authors': DiT (facebookresearch/DiT ``models.py``), U-ViT (baofff/U-ViT ``libs/uvit.py``) and both in the
  DC-AE authors' release (mit-han-lab/efficientvit ``diffusioncore/models``). The tensors are the same, but for DiT's
  fixed position table, which is stored there.
- diffusers' ``DiTTransformer2DModel``, which separates queries, keys and values and repeats the embedding of time and
  class in every block.
- diffusers' ``PixArtTransformer2DModel``, the network used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dcae.diffusion.models.dit import DiT
from dcae.diffusion.models.u_vit import UViT

DIT_NAMES = {
    "patch_embedding.": "x_embedder.",
    "time_embedding.": "t_embedder.",
    "label_embedding.": "y_embedder.embedding_table.",
}
U_VIT_NAMES = {
    "patch_embedding.": "patch_embed.",
    "label_embedding.": "label_emb.embedding_table.",
    "position_embedding": "pos_embed",
    "output.": "decoder_pred.",
    "final_convolution.": "final_layer.",
}
BAO_LABEL_NAMES = {"label_embedding.": "label_emb."}  # U-ViT's own release; the DC-AE authors wrap this layer
POSITIONS = "pos_embed"

# diffusers' DiT: in the embedding of every block.
EMBEDDING = {
    "time_embedding.mlp.0.": "timestep_embedder.linear_1.",
    "time_embedding.mlp.2.": "timestep_embedder.linear_2.",
    "label_embedding.": "class_embedder.embedding_table.",
}
ENDS = {
    "patch_embedding.": "pos_embed.",
    "final_layer.adaLN_modulation.1.": "proj_out_1.",
    "final_layer.linear.": "proj_out_2.",
}
IN_BLOCK = {
    "adaLN_modulation.1.": "norm1.linear.",
    "attn.proj.": "attn1.to_out.0.",
    "mlp.fc1.": "ff.net.0.proj.",
    "mlp.fc2.": "ff.net.2.",
}
POSITIONS_OF_DIFFUSERS = "pos_embed.pos_embed"  # only in files of old versions


def _renamed(name: str, table: Mapping[str, str]) -> str:
    here = next((start for start in table if name.startswith(start)), None)
    return name if here is None else table[here] + name.removeprefix(here)


def authors_names(denoiser: DiT | UViT, stored: Iterable[str]) -> dict[str, str]:
    """Map each name of the authors' layout to the name of the same weights here.

    Args:
        denoiser: its fixed position table, if any, is left out.
        stored: the names in a file, to distinguish two variants of U-ViT.
    """
    table = DIT_NAMES if isinstance(denoiser, DiT) else U_VIT_NAMES
    if "label_emb.weight" in stored:
        table = {**table, **BAO_LABEL_NAMES}
    return {_renamed(name, table): name for name in denoiser.state_dict()}


def diffusers_names(dit: DiT) -> dict[str, str | tuple[str, int]]:
    """Map each name of diffusers' layout to the name here, with the third of ``qkv`` for queries, keys and values."""
    found: dict[str, str | tuple[str, int]] = {}
    for name in dit.state_dict():
        embedding = _renamed(name, EMBEDDING)
        if embedding != name:
            for number in range(len(dit.blocks)):
                found[f"transformer_blocks.{number}.norm1.emb.{embedding}"] = name
        elif name.startswith("blocks."):
            _, number, inside = name.split(".", 2)
            if inside.startswith("attn.qkv."):
                parameter = inside.removeprefix("attn.qkv.")
                for third, letter in enumerate("qkv"):
                    found[f"transformer_blocks.{number}.attn1.to_{letter}.{parameter}"] = name, third
            else:
                found[f"transformer_blocks.{number}.{_renamed(inside, IN_BLOCK)}"] = name
        else:
            found[_renamed(name, ENDS)] = name
    return found


def diffusers_shapes(dit: DiT) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a DiT in diffusers' layout, by name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in dit.state_dict().items()}
    found = {}
    for there, here in diffusers_names(dit).items():
        if isinstance(here, tuple):
            first, *others = shapes[here[0]]
            found[there] = (first // 3, *others)
        else:
            found[there] = shapes[here]
    return found


def from_diffusers(tensors: Mapping[str, Tensor], dit: DiT) -> dict[str, Tensor]:
    """Rename and join weights in diffusers' layout.

    Raises:
        ValueError: the blocks' copies of the embedding of time and class differ; names two of them.
    """
    found: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    for there, here in diffusers_names(dit).items():
        if isinstance(here, tuple):
            thirds.setdefault(here[0], {})[here[1]] = tensors[there]
        elif here not in found:
            found[here], first[here] = tensors[there], there
        elif not torch.equal(found[here], tensors[there]):
            raise ValueError(f"{there} differs from {first[here]}, but DiT has one embedding for all blocks")
    return found | {name: torch.cat([parts[0], parts[1], parts[2]]) for name, parts in thirds.items()}


def layout_and_prefix(names: Iterable[str], denoiser: nn.Module) -> tuple[str, str]:
    """Return a file's layout, ``authors`` or ``diffusers``, and the prefix of its weights' names.

    Averaged weights (``ema.…``) take precedence.

    Raises:
        ValueError: the file has no weights of such a denoiser, or several.
    """
    authors, diffusers = ("authors", "x_embedder.proj.weight"), ("diffusers", "pos_embed.proj.weight")
    markers = {DiT: [authors, diffusers], UViT: [("authors", "in_blocks.0.norm1.weight")]}.get(
        type(denoiser), [diffusers]
    )
    found = [
        (layout, name.removesuffix(marker))
        for layout, marker in markers
        for name in names
        if name == marker or name.endswith(f".{marker}")
    ]
    chosen = [each for each in found if each[1].startswith("ema.")] or found
    if len(chosen) != 1:
        expected = " or ".join(marker for _, marker in markers)
        held = ", ".join(f"{prefix}…" for _, prefix in chosen) or "none"
        raise ValueError(f"expected the weights of one {type(denoiser).__name__} (with {expected}), found {held}")
    return chosen[0]

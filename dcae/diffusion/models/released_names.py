# SPDX-License-Identifier: Apache-2.0
"""Names of a denoiser's weights in the layouts in which others release them.

- The authors' own: DiT (facebookresearch/DiT ``models.py``), U-ViT (baofff/U-ViT ``libs/uvit.py``) and both as the
  DC-AE authors have them (mit-han-lab/efficientvit ``diffusioncore/models``). The tensors are the same, but for DiT's
  fixed table of positions, which is among the weights there.
- diffusers' ``DiTTransformer2DModel``, which keeps queries, keys and values apart and has a copy of the embedding of
  time and class in every block.
- diffusers' ``PixArtTransformer2DModel``, which is the network here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dcae.diffusion.models.dit import DiT
from dcae.diffusion.models.u_vit import UViT

OF_DIT = {
    "patch_embedding.": "x_embedder.",
    "time_embedding.": "t_embedder.",
    "label_embedding.": "y_embedder.embedding_table.",
}
OF_U_VIT = {
    "patch_embedding.": "patch_embed.",
    "label_embedding.": "label_emb.embedding_table.",
    "position_embedding": "pos_embed",
    "output.": "decoder_pred.",
    "final_convolution.": "final_layer.",
}
LABELS_OF_BAO = {"label_embedding.": "label_emb."}  # U-ViT's own release; the DC-AE authors have a layer around it
POSITIONS = "pos_embed"

# Of diffusers' DiT. In the embedding of every block:
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
OF_A_BLOCK = {
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
    """Each name of the authors' layout to the name that the same weights have here.

    Args:
        denoiser: without its position table, if that is fixed.
        stored: the names in a file, which tell two variants of U-ViT apart.
    """
    table = OF_DIT if isinstance(denoiser, DiT) else OF_U_VIT
    if "label_emb.weight" in stored:
        table = {**table, **LABELS_OF_BAO}
    return {_renamed(name, table): name for name in denoiser.state_dict()}


def diffusers_names(dit: DiT) -> dict[str, str | tuple[str, int]]:
    """Each name of diffusers' layout to the name here; of queries, keys and values, and which third of it."""
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
                found[f"transformer_blocks.{number}.{_renamed(inside, OF_A_BLOCK)}"] = name
        else:
            found[_renamed(name, ENDS)] = name
    return found


def diffusers_shapes(dit: DiT) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor of a DiT in diffusers' layout."""
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
    """Weights in diffusers' layout under the names here.

    Raises:
        ValueError: the blocks' copies of the embedding of time and class are not the same; names two that differ.
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
    """In which layout a file is, ``authors`` or ``diffusers``, and what its weights' names begin with.

    Of averaged weights and others, the averaged ones (``ema.…``) are meant.

    Raises:
        ValueError: no weights of such a denoiser, or of several.
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

# SPDX-License-Identifier: Apache-2.0
"""Released KL autoencoders of latent diffusion in their original layout, as diffusers' ``AutoencoderKL``.

Original names: github.com/CompVis/latent-diffusion, ``ldm/modules/diffusionmodules/model.py`` and
``ldm/models/autoencoder.py``. The tensors are the same, but the attention's 1x1 convolutions are linear layers in
diffusers, and the decoder's levels are counted from the other end. diffusers' own conversion leaves out the attention
of levels, which kl-f16 and kl-f32 have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dcae.autoencoders import folder
from dcae.benchmark.entries import DiffusersEntry
from dcae.weights.hub import find

if TYPE_CHECKING:
    from dcae.autoencoders.from_diffusers import DiffusersAutoencoder

LOSS = "loss."  # discriminator and LPIPS, which the released checkpoints hold as well
CONVERSION = (
    f'safetensors.torch.save_file({{k: v for k, v in torch.load(path, weights_only=True)["state_dict"].items() '
    f'if not k.startswith("{LOSS}")}}, new_path)'
)
# Names of diffusers' AutoencoderKL to those of LDM, one after the other.
RENAMED = (
    (r"down_blocks\.", "down."),
    (r"(down|up)\.(\d+)\.resnets\.", r"\1.\2.block."),
    (r"(down|up)\.(\d+)\.attentions\.", r"\1.\2.attn."),
    (r"(down|up)samplers\.0\.", r"\1sample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"conv_shortcut\.", "nin_shortcut."),
    (r"conv_norm_out\.", "norm_out."),
    (r"group_norm\.", "norm."),
    (r"to_([qkv])\.", r"\1."),
    (r"to_out\.0\.", "proj_out."),
)
ATTENTION = re.compile(r"attn\w*\.(\d+\.)?(q|k|v|proj_out)\.weight$")


def ldm_name(name: str, levels: int) -> str:
    """Return LDM's name of a weight of diffusers' ``AutoencoderKL`` with so many levels of resolution."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    for pattern, other in RENAMED:
        name = re.sub(pattern, other, name)
    return name


def read_ldm(entry: DiffusersEntry, autoencoder: DiffusersAutoencoder) -> None:
    """Load the weights under the entry's ``pretrained`` into its autoencoder, in place.

    Raises:
        WeightsError: the weights are missing, a pickle, or not the entry's; names the file and the difference.
    """
    path = autoencoder.released_file = find(f"autoencoder {entry.name}", entry.pretrained, CONVERSION)
    model = autoencoder.model
    state = model.state_dict()
    names = {ldm_name(name, len(model.decoder.up_blocks)): name for name in state}
    shapes = {there: tuple(state[here].shape) for there, here in names.items()}
    shapes |= {name: (*shape, 1, 1) for name, shape in shapes.items() if ATTENTION.search(name)}
    stored = {name: shape for name, shape in folder.read_shapes(path).items() if not name.startswith(LOSS)}
    folder.compare(path, stored, shapes, f"autoencoder {entry.name} in LDM's layout")
    tensors = folder.read_tensors(path)
    model.load_state_dict({here: tensors[there].reshape(state[here].shape) for there, here in names.items()})

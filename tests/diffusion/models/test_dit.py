# SPDX-License-Identifier: Apache-2.0
"""DiT against diffusers' transformer (made for the released weights), and its initialisation."""

import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

from dcae.diffusion.models.dit import DiT

DEPTH, WIDTH, HEADS, CHANNELS, SIZE, PATCH, CLASSES = 2, 32, 2, 3, 6, 2, 5


def a_dit() -> DiT:
    torch.manual_seed(0)
    return DiT(DEPTH, WIDTH, HEADS, CHANNELS, SIZE, PATCH, CLASSES)


def weights_for_diffusers(dit: DiT) -> dict[str, torch.Tensor]:
    """diffusers keeps q, k, v apart, and one copy of the time and label embedding in every block."""
    ours = dit.state_dict()
    theirs = {
        "pos_embed.proj.weight": ours["patch_embedding.proj.weight"],
        "pos_embed.proj.bias": ours["patch_embedding.proj.bias"],
        "proj_out_1.weight": ours["final_layer.adaLN_modulation.1.weight"],
        "proj_out_1.bias": ours["final_layer.adaLN_modulation.1.bias"],
        "proj_out_2.weight": ours["final_layer.linear.weight"],
        "proj_out_2.bias": ours["final_layer.linear.bias"],
    }
    for i in range(DEPTH):
        block, other = f"blocks.{i}", f"transformer_blocks.{i}"
        theirs[f"{other}.norm1.emb.class_embedder.embedding_table.weight"] = ours["label_embedding.weight"]
        for part in ("weight", "bias"):
            for name, values in zip("qkv", ours[f"{block}.attn.qkv.{part}"].chunk(3), strict=True):
                theirs[f"{other}.attn1.to_{name}.{part}"] = values
            theirs |= {
                f"{other}.attn1.to_out.0.{part}": ours[f"{block}.attn.proj.{part}"],
                f"{other}.ff.net.0.proj.{part}": ours[f"{block}.mlp.fc1.{part}"],
                f"{other}.ff.net.2.{part}": ours[f"{block}.mlp.fc2.{part}"],
                f"{other}.norm1.linear.{part}": ours[f"{block}.adaLN_modulation.1.{part}"],
                f"{other}.norm1.emb.timestep_embedder.linear_1.{part}": ours[f"time_embedding.mlp.0.{part}"],
                f"{other}.norm1.emb.timestep_embedder.linear_2.{part}": ours[f"time_embedding.mlp.2.{part}"],
            }
    return theirs


def test_forward_is_that_of_diffusers():
    dit = a_dit()
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    other = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        num_layers=DEPTH,
        sample_size=SIZE,
        patch_size=PATCH,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,
    ).eval()
    other.load_state_dict(weights_for_diffusers(dit))
    latents, labels = torch.randn(2, CHANNELS, SIZE, SIZE), torch.tensor([1, CLASSES])
    # At timestep 0 the sinusoid does not depend on the frequencies, which diffusers spaces in another way.
    timesteps = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        expected = other(latents, timesteps, labels).sample
        assert torch.allclose(dit(latents, timesteps, labels), expected, atol=1e-5)


def test_it_begins_by_predicting_zero():
    assert torch.count_nonzero(a_dit()(torch.randn(2, CHANNELS, SIZE, SIZE), torch.zeros(2), torch.tensor([0, 1]))) == 0


def test_initialisation_is_the_original():
    dit = DiT(2, 256, 4, 4, 16, 2, 999)
    qkv = dit.blocks[0].attn.qkv
    # Xavier-uniform: limit sqrt(6 / (fan in + fan out)); a deviation from n values errs by 1 / sqrt(2n).
    assert abs(qkv.weight.std() / (2 / (256 + 768)) ** 0.5 - 1) < 0.01
    assert qkv.weight.abs().max() <= (6 / (256 + 768)) ** 0.5
    projection = dit.patch_embedding.proj.weight
    assert projection.abs().max() <= (6 / (256 + 16)) ** 0.5
    assert abs(projection.std() / (2 / (256 + 16)) ** 0.5 - 1) < 0.05
    for table in (dit.label_embedding, dit.time_embedding.mlp[0], dit.time_embedding.mlp[2]):
        assert abs(table.weight.std() / 0.02 - 1) < 0.02
    assert all(torch.count_nonzero(layer.bias) == 0 for layer in dit.modules() if isinstance(layer, torch.nn.Linear))


def test_the_position_table_is_no_parameter_and_not_saved():
    assert "positions" not in dict(a_dit().named_parameters())
    assert "positions" not in a_dit().state_dict()

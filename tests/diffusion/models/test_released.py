# SPDX-License-Identifier: Apache-2.0
"""Random weights in the released layouts, read into the networks here, compute what the published structures do."""

import json
import math

import pytest
import torch
from diffusers import DiTTransformer2DModel, PixArtTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from dcae.benchmark.config import Config
from dcae.benchmark.entries import Pretrained
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.embeddings import position_table, sinusoid
from dcae.diffusion.models.released import load_released
from dcae.diffusion.models.released_names import diffusers_shapes
from dcae.weights.catalogue import WeightsError

CONFIG = Config()
WIDTH, HEADS, CHANNELS, SIZE, PATCH, CLASSES = 32, 4, 3, 6, 2, 5
SHAPE = {"latent_channels": CHANNELS, "latent_size": SIZE, "patch_size": PATCH, "classes": CLASSES}
LATENTS, LABELS = torch.randn(2, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 5])
TIMESTEPS = torch.tensor([7, 801])


def entry(name: str, place, **changes):
    pretrained = Pretrained(id=str(place), **changes.pop("pretrained", {}))
    changes = {"width": WIDTH, "heads": HEADS, "pretrained": pretrained, **changes}
    return CONFIG.entry("diffusion", name).model_copy(update=changes)


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return module.eval()


@torch.no_grad()
def output(denoiser, condition=LABELS):
    return denoiser(LATENTS, TIMESTEPS, condition)


# --- DiT ---


@pytest.fixture
def dit() -> DiTTransformer2DModel:
    """diffusers' network with one embedding for all blocks, and the sinusoid that the weights were trained with."""
    network = randomised(
        DiTTransformer2DModel(
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH // HEADS,
            in_channels=CHANNELS,
            out_channels=2 * CHANNELS,
            num_layers=2,
            sample_size=SIZE,
            patch_size=PATCH,
            num_embeds_ada_norm=CLASSES,
            norm_eps=1e-6,
        )
    )
    first, second = (block.norm1.emb for block in network.transformer_blocks)
    second.load_state_dict(first.state_dict())
    for embedding in (first, second):
        embedding.time_proj.downscale_freq_shift = 0
    return network


@torch.no_grad()
def of_diffusers(dit):
    return dit(LATENTS, TIMESTEPS, LABELS).sample


def authors_dit(dit) -> dict[str, torch.Tensor]:
    """The same weights in the layout of DiT's own release."""
    theirs = dit.state_dict()
    embedding = "transformer_blocks.0.norm1.emb"
    found = {
        "pos_embed": position_table(SIZE // PATCH, WIDTH),
        "y_embedder.embedding_table.weight": theirs[f"{embedding}.class_embedder.embedding_table.weight"],
    }
    for part in ("weight", "bias"):
        found |= {
            f"x_embedder.proj.{part}": theirs[f"pos_embed.proj.{part}"],
            f"t_embedder.mlp.0.{part}": theirs[f"{embedding}.timestep_embedder.linear_1.{part}"],
            f"t_embedder.mlp.2.{part}": theirs[f"{embedding}.timestep_embedder.linear_2.{part}"],
            f"final_layer.adaLN_modulation.1.{part}": theirs[f"proj_out_1.{part}"],
            f"final_layer.linear.{part}": theirs[f"proj_out_2.{part}"],
        }
        for i in range(2):
            block = f"transformer_blocks.{i}"
            found |= {
                f"blocks.{i}.attn.qkv.{part}": torch.cat([theirs[f"{block}.attn1.to_{x}.{part}"] for x in "qkv"]),
                f"blocks.{i}.attn.proj.{part}": theirs[f"{block}.attn1.to_out.0.{part}"],
                f"blocks.{i}.mlp.fc1.{part}": theirs[f"{block}.ff.net.0.proj.{part}"],
                f"blocks.{i}.mlp.fc2.{part}": theirs[f"{block}.ff.net.2.{part}"],
                f"blocks.{i}.adaLN_modulation.1.{part}": theirs[f"{block}.norm1.linear.{part}"],
            }
    return {name: tensor.contiguous() for name, tensor in found.items()}


def test_dit_as_diffusers_has_it(tmp_path, dit):
    dit.save_pretrained(tmp_path / "transformer")
    loaded = load_released(entry("dit-demo", tmp_path, pretrained={"subfolder": "transformer"}), **SHAPE)
    assert not loaded.training and loaded.metadata["pretrained"]["subfolder"] == "transformer"
    assert torch.allclose(output(loaded), of_diffusers(dit), atol=1e-5)  # float32


def test_copies_of_the_embedding_must_be_equal(tmp_path, dit):
    with torch.no_grad():
        dit.transformer_blocks[1].norm1.emb.timestep_embedder.linear_2.bias[3] += 0.1
    dit.save_pretrained(tmp_path)
    with pytest.raises(
        WeightsError, match=r"transformer_blocks\.1\.norm1\.emb.*linear_2\.bias differs from .*blocks\.0"
    ):
        load_released(entry("dit-demo", tmp_path), **SHAPE)


def test_dit_xl_has_the_size_that_diffusers_gives_it():
    with torch.device("meta"):
        shapes = diffusers_shapes(build_denoiser(CONFIG.entry("diffusion", "dit-xl-2-512"), 4, 64, 2, 1000))
    # A copy of the embedding in each of the 28 blocks makes 749.83 M parameters of 674.8 M.
    assert round(sum(math.prod(shape) for shape in shapes.values()) / 1e6, 2) == 749.83


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "dit."])
def test_dit_as_its_authors_and_those_of_dc_ae_have_it(tmp_path, dit, prefix):
    tensors = {prefix + name: tensor for name, tensor in authors_dit(dit).items()}
    if prefix == "diffusion_model.":
        tensors["autoencoder.encoder.project_in.conv.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.allclose(output(load_released(entry("dit-demo", tmp_path), **SHAPE)), of_diffusers(dit), atol=1e-5)


def test_positions_of_another_size_are_refused(tmp_path, dit):
    save_file(authors_dit(dit) | {"pos_embed": 2 * position_table(3, WIDTH)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"its table of positions \[1, 9, 32\] is not that of this denoiser"):
        load_released(entry("dit-demo", tmp_path), **SHAPE)
    save_file(authors_dit(dit), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"\[1, 9, 32\] .* \[1, 16, 32\]: the weights are for another latent size"):
        load_released(entry("dit-demo", tmp_path), **SHAPE | {"latent_size": 8})


def test_the_config_of_another_network_is_refused(tmp_path, dit):
    dit.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"config\.json .*: num_attention_heads is 4, expected 2"):
        load_released(entry("dit-demo", tmp_path, heads=2), **SHAPE)
    with pytest.raises(WeightsError, match="sample_size is 6, expected 8"):
        load_released(entry("dit-demo", tmp_path), **SHAPE | {"latent_size": 8})


# --- U-ViT ---


def u_vit_tensors(depth: int = 4, convolution: bool = False, labels: str = "label_emb.embedding_table.weight"):
    """Names and shapes of mit-han-lab/efficientvit diffusioncore/models/uvit.py; of baofff/U-ViT with other labels."""
    blocks = [
        *(f"in_blocks.{i}" for i in range(depth // 2)),
        "mid_block",
        *(f"out_blocks.{i}" for i in range(depth // 2)),
    ]
    shapes = {
        "patch_embed.proj.weight": (WIDTH, CHANNELS, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        labels: (CLASSES + 1, WIDTH),
        "pos_embed": (1, 2 + (SIZE // PATCH) ** 2, WIDTH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "decoder_pred.weight": (PATCH**2 * CHANNELS, WIDTH),
        "decoder_pred.bias": (PATCH**2 * CHANNELS,),
    }
    if convolution:
        shapes |= {"final_layer.weight": (CHANNELS, CHANNELS, 3, 3), "final_layer.bias": (CHANNELS,)}
    for block in blocks:
        shapes |= {
            f"{block}.norm1.weight": (WIDTH,),
            f"{block}.norm1.bias": (WIDTH,),
            f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"{block}.attn.proj.weight": (WIDTH, WIDTH),
            f"{block}.attn.proj.bias": (WIDTH,),
            f"{block}.norm2.weight": (WIDTH,),
            f"{block}.norm2.bias": (WIDTH,),
            f"{block}.mlp.fc1.weight": (4 * WIDTH, WIDTH),
            f"{block}.mlp.fc1.bias": (4 * WIDTH,),
            f"{block}.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            f"{block}.mlp.fc2.bias": (WIDTH,),
        }
        if block.startswith("out_blocks"):
            shapes |= {f"{block}.skip_linear.weight": (WIDTH, 2 * WIDTH), f"{block}.skip_linear.bias": (WIDTH,)}
    generator = torch.Generator().manual_seed(1)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def u_vit_of_the_paper(w: dict[str, torch.Tensor], depth: int = 4) -> torch.Tensor:
    """The published forward pass on the published names."""

    def linear(x, name):
        return nn.functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x, name):
        return nn.functional.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    def block(x, name, skip=None):
        if skip is not None:
            x = linear(torch.cat([x, skip], dim=-1), f"{name}.skip_linear")
        qkv = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + linear(scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2), f"{name}.attn.proj")
        return x + linear(gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")

    patches = nn.functional.conv2d(LATENTS, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
    labels = next(w[name] for name in w if name.startswith("label_emb."))[LABELS]
    x = torch.cat([labels[:, None], sinusoid(TIMESTEPS, WIDTH)[:, None], patches.flatten(2).mT], 1) + w["pos_embed"]
    skips = []
    for i in range(depth // 2):
        skips.append(x := block(x, f"in_blocks.{i}"))
    x = block(x, "mid_block")
    for i in range(depth // 2):
        x = block(x, f"out_blocks.{i}", skips.pop())
    x = linear(norm(x, "norm"), "decoder_pred")[:, 2:]
    x = x.unflatten(1, (SIZE // PATCH, -1)).unflatten(-1, (PATCH, PATCH, CHANNELS))  # b, rows, columns, y, x, c
    x = x.permute(0, 5, 1, 3, 2, 4).reshape(LATENTS.shape)
    if "final_layer.weight" in w:
        x = nn.functional.conv2d(x, w["final_layer.weight"], w["final_layer.bias"], padding=1)
    return x


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "uvit."])
@pytest.mark.parametrize("recipe", ["uvit", "usit"])
def test_u_vit_and_usit_as_the_dc_ae_authors_have_them(tmp_path, prefix, recipe):
    tensors = u_vit_tensors()
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    loaded = load_released(entry("uvit-demo", tmp_path, depth=4, recipe=recipe), **SHAPE)
    assert torch.allclose(output(loaded), u_vit_of_the_paper(tensors), atol=1e-5)


def test_u_vit_as_its_authors_have_it(tmp_path):
    tensors = u_vit_tensors(convolution=True, labels="label_emb.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_released(entry("uvit-demo", tmp_path, depth=4, final_convolution=True), **SHAPE)
    assert torch.allclose(output(loaded), u_vit_of_the_paper(tensors), atol=1e-5)


def test_of_two_sets_of_weights_the_averaged_ones_are_taken(tmp_path):
    tensors = u_vit_tensors()
    both = {f"ema.0.9999.uvit.{name}": tensor for name, tensor in tensors.items()}
    both |= {f"state_dict.uvit.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(both, tmp_path / "model.safetensors")
    loaded = load_released(entry("uvit-demo", tmp_path, depth=4), **SHAPE)
    assert torch.allclose(output(loaded), u_vit_of_the_paper(tensors), atol=1e-5)

    save_file({name.replace("ema.", "other."): tensor for name, tensor in both.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"expected the weights of one UViT .*, found .*uvit\.…, .*uvit\.…"):
        load_released(entry("uvit-demo", tmp_path, depth=4), **SHAPE)


def test_weights_of_another_shape_are_refused_before_they_are_read(tmp_path):
    save_file(u_vit_tensors(), tmp_path / "model.safetensors")
    place = entry("uvit-demo", tmp_path, depth=4)
    for changes, message in (
        (
            {"classes": 6},
            r"does not fit the denoiser: .*label_emb\.embedding_table\.weight is \[6, 32\], expected \[7, 32\]",
        ),
        ({"latent_size": 8}, r"pos_embed is \[1, 11, 32\], expected \[1, 18, 32\]"),
        ({"latent_channels": 4}, r"patch_embed\.proj\.weight is \[32, 3, 2, 2\], expected \[32, 4, 2, 2\]"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_released(place, **SHAPE | changes, device="meta")
    with pytest.raises(WeightsError, match=r"missing: in_blocks\.2\.norm1\.weight"):
        load_released(entry("uvit-demo", tmp_path, depth=6), **SHAPE)
    with pytest.raises(WeightsError, match=r"expected the weights of one DiT \(with .*x_embedder.*\), found none"):
        load_released(entry("dit-demo", tmp_path), **SHAPE)


# --- PixArt-α ---


def test_pixart_as_diffusers_has_it(tmp_path):
    network = randomised(
        PixArtTransformer2DModel(
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH // HEADS,
            in_channels=CHANNELS,
            out_channels=2 * CHANNELS,
            num_layers=2,
            cross_attention_dim=WIDTH,
            sample_size=SIZE,
            patch_size=PATCH,
            interpolation_scale=2,
            caption_channels=64,
        )
    )
    network.save_pretrained(tmp_path)
    captions = Captions(torch.randn(2, 6, 64), torch.tensor([[True] * 6, [True] * 2 + [False] * 4]))
    with torch.no_grad():
        expected = network(LATENTS, captions.embeddings, TIMESTEPS, encoder_attention_mask=captions.mask.long()).sample
    loaded = load_released(entry("pixart-demo", tmp_path, interpolation_scale=2), **SHAPE)
    assert torch.equal(output(loaded, captions), expected)
    with pytest.raises(WeightsError, match="interpolation_scale is 2, expected 1"):
        load_released(entry("pixart-demo", tmp_path), **SHAPE)

    # Files of old versions hold a table of positions and what the training put in place of captions.
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {"pos_embed.pos_embed": network.pos_embed.pos_embed, "caption_projection.y_embedding": torch.zeros(6, 64)}
    save_file(load_file(file) | old, file)
    assert torch.equal(
        output(load_released(entry("pixart-demo", tmp_path, interpolation_scale=2), **SHAPE), captions), expected
    )


# --- where they lie ---


def test_pickles_are_refused_saying_how_to_convert_them(tmp_path):
    torch.save({"ema": {"0.9999": u_vit_tensors()}}, tmp_path / "checkpoint.pt")
    for place in (tmp_path, tmp_path / "checkpoint.pt"):
        message = r"diffusion model uvit-demo: .*checkpoint\.pt is a pickle.*save_file.*\['ema'\]\.values"
        with pytest.raises(WeightsError, match=message):
            load_released(entry("uvit-demo", place, depth=4), **SHAPE)


def test_every_entry_with_released_weights_names_its_source():
    released = [CONFIG.entry("diffusion", name) for name in CONFIG.files("diffusion")]
    released = [each for each in released if each.pretrained]
    assert len(released) == 13
    for each in released:
        assert each.source.startswith(each.pretrained.id)
        assert json.dumps(each.decisive())

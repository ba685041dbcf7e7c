# SPDX-License-Identifier: Apache-2.0
"""Networks have exactly the published sizes and the shapes that are asked for."""

import pytest
import torch

from dcae.benchmark.config import Config
from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from evaluation.efficiency.cost import count_macs, count_parameters

CONFIG = Config()


def build(name: str, latent_channels: int, latent_size: int, patch_size: int, classes: int):
    with torch.device("meta"):
        return build_denoiser(CONFIG.entry("diffusion", name), latent_channels, latent_size, patch_size, classes)


def captions(batch: int, tokens: int, channels: int) -> Captions:
    return Captions(torch.randn(batch, tokens, channels), torch.ones(batch, tokens, dtype=torch.bool))


# fmt: off
SIZES = [
    # entry, latent channels and size, patch size, classes: image tokens, millions of parameters, GMACs as printed
    # Table 3 of the paper
    ("uvit-s",   16,  64, 2, 1000, 1024,   45.215, "59.27"),
    ("uvit-s",    4,  64, 2, 1000, 1024,   45.166, "59.22"),
    ("uvit-s",   16,  32, 2, 1000,  256,   44.822, "12.27"),
    ("uvit-s",   64,  16, 1, 1000,  256,   44.822, "12.27"),
    ("uvit-s",   32,  16, 1, 1000,  256,   44.789, "12.26"),
    ("uvit-s",  128,   8, 1, 1000,   64,   44.789, "2.97"),
    ("dit-xl",    4,  64, 2, 1000, 1024,  674.835, "524.5"),
    ("dit-xl",   32,  16, 1, 1000,  256,  674.890, "118.6"),
    ("uvit-h",    4,  64, 2, 1000, 1024,  501.717, "582.3"),
    ("uvit-h",   32,  16, 1, 1000,  256,  500.869, "133.2"),
    ("uvit-h",  128,   8, 1, 1000,   64,  500.869, "33.24"),
    ("uvit-2b",  32,  16, 1, 1000,  256, 1580.397, "414.8"),
    ("uvit-2b", 128,   8, 1, 1000,   64, 1580.397, "104.6"),
    ("usit-h",   32,  16, 1, 1000,  256,  500.869, "133.2"),
    ("usit-2b",  32,  16, 1, 1000,  256, 1580.397, "414.8"),
    # f128c512 at 512 px
    ("uvit-s",  512,   4, 1, 1000,   16,     None, "0.81"),
    ("uvit-h",  512,   4, 1, 1000,   16,     None, "9.02"),
    ("dit-xl",  512,   4, 1, 1000,   16,     None, "7.41"),
    # Table 1
    ("dit-xl",    4,  64, 4, 1000,  256,  675.001, "118.66"),
    ("dit-xl",   16,  32, 2, 1000,  256,  675.001, "118.66"),
    ("dit-xl",   64,  16, 1, 1000,  256,  675.001, "118.66"),
    ("uvit-s",    4,  64, 8, 1000,   64,   44.920, "2.98"),
    ("uvit-s",   16,  32, 4, 1000,   64,   44.920, "2.98"),
    ("uvit-s",   64,  16, 2, 1000,   64,   44.920, "2.98"),
    # Table 4
    ("dit-s",     4, 128, 2,    0, 4096,   32.481, "241.7"),
    ("dit-s",     4, 128, 2,   10, 4096,   32.485, "241.7"),
    ("dit-s",     4, 128, 4,    0, 1024,   32.536, "31.5"),
    ("dit-s",     4, 128, 4,   10, 1024,   32.540, "31.5"),
    ("dit-s",    32,  32, 1,    0, 1024,   32.499, "31.5"),
    ("dit-s",    32,  32, 1,   10, 1024,   32.503, "31.5"),
    ("dit-s",   128,  16, 1,    0,  256,   32.610, "6.09"),
    ("dit-s",   128,  16, 1,   10,  256,   32.614, "6.09"),
    ("dit-s",     4, 256, 4,    0, 4096,   32.536, "241.9"),
    ("dit-s",   128,  32, 1,    0, 1024,   32.610, "31.6"),
    ("dit-s-unconditional", 128, 16, 1, 10, 256, 32.610, "6.09"),
    # Table 5; 120 tokens of text
    ("pixart-xl", 4,  64, 2,    0, 1024,  610.856, "618.0"),
    ("pixart-xl", 32, 16, 1,    0,  256,  610.911, "149.1"),
    # U-ViT's other sizes
    ("uvit-m",   32,  16, 1, 1000,  256,  130.916, "35.2"),
    ("uvit-l",   32,  16, 1, 1000,  256,  286.796, "76.5"),
]
# fmt: on


@pytest.mark.parametrize(("name", "channels", "size", "patch_size", "classes", "tokens", "millions", "gmacs"), SIZES)
def test_parameters_and_costs_are_the_published_ones(
    name, channels, size, patch_size, classes, tokens, millions, gmacs
):
    denoiser = build(name, channels, size, patch_size, classes)
    assert (size // patch_size) ** 2 == tokens
    assert millions in (None, round(count_parameters(denoiser) / 1e6, 3))
    with torch.device("meta"):
        condition = captions(1, 120, 4096) if name.startswith("pixart") else torch.zeros(1, dtype=torch.long)
        inputs = torch.randn(1, channels, size, size), torch.ones(1)
    macs = count_macs(lambda latents, timesteps: denoiser(latents, timesteps, condition), *inputs)
    assert f"{macs / 1e9:.{len(gmacs.split('.')[1])}f}" == gmacs


# Printed in mit-han-lab/efficientvit applications/dc_ae: (entry, latent channels and size), millions, GMACs
README = [
    ("uvit-s", 32, 16, 44.79, 12.27),
    ("dit-xl", 32, 16, 674.89, 118.68),
    ("uvit-h", 32, 16, 500.87, 133.25),
    ("uvit-h", 128, 8, 500.87, 33.25),
    ("uvit-2b", 32, 16, 1580.40, 414.91),
    ("uvit-2b", 128, 8, 1580.40, 104.65),
]


@pytest.mark.parametrize(("name", "channels", "size", "millions", "gmacs"), README)
def test_the_authors_print_the_same(name, channels, size, millions, gmacs):
    denoiser = build(name, channels, size, 1, 1000)
    assert round(count_parameters(denoiser) / 1e6, 2) == millions
    with torch.device("meta"):
        inputs = torch.randn(1, channels, size, size), torch.ones(1), torch.zeros(1, dtype=torch.long)
    # They count norms, too.
    assert count_macs(denoiser, *inputs) / 1e9 == pytest.approx(gmacs, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("dit-s", 32.9, 6.06),
        ("dit-s-unconditional", 32.5, 6.06),
        ("dit-b", 130.3, 23.0),
        ("dit-l", 457.8, 80.7),
        ("dit-xl", 674.8, 118.6),
    ],
)
def test_dit_sizes_at_256_pixels_are_the_published_ones(name, millions, gmacs):
    denoiser = build(name, 4, 32, 2, 1000)
    assert round(count_parameters(denoiser) / 1e6, 1) == millions
    with torch.device("meta"):
        inputs = torch.randn(1, 4, 32, 32), torch.ones(1), torch.zeros(1, dtype=torch.long)
    assert count_macs(denoiser, *inputs) / 1e9 == pytest.approx(gmacs, abs=0.05)  # printed with one digit, S with two


@pytest.mark.parametrize(("name", "each"), [("dit-demo", 1), ("uvit-demo", 1), ("pixart-demo", 2)])
def test_attention_goes_through_the_fused_kernel(name, each, monkeypatch):
    """Once in each block, and once more to the captions of PixArt-α."""
    denoiser, calls = build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, 5), []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*inputs, **options):
        calls.append(inputs)
        return fused(*inputs, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    denoiser(torch.randn(1, 4, 4, 4), torch.ones(1), captions(1, 6, 64) if each == 2 else torch.tensor([0]))
    blocks = [module for module in denoiser.modules() if type(module).__name__.endswith("Block")]
    assert len(calls) == each * len(blocks)


def test_the_final_convolution_is_the_entrys_option():
    entry = CONFIG.entry("diffusion", "uvit-s").model_copy(update={"final_convolution": True})
    with torch.device("meta"):
        with_convolution = build_denoiser(entry, 4, 32, 2, 1000)
    without = build("uvit-s", 4, 32, 2, 1000)
    extra = sum(p.numel() for p in with_convolution.parameters()) - sum(p.numel() for p in without.parameters())
    assert extra == 4 * 4 * 9 + 4


@pytest.mark.parametrize(("name", "ratio"), [("dit-demo", 2), ("uvit-demo", 1)])
@pytest.mark.parametrize(
    ("channels", "size", "patch_size"), [(4, 16, 2), (4, 16, 4), (32, 4, 1), (128, 2, 1), (3, 6, 3)]
)
@pytest.mark.parametrize("classes", [0, 5])
def test_any_latent_shape_and_patch_size(name, ratio, channels, size, patch_size, classes):
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), channels, size, patch_size, classes)
    labels = torch.tensor([0, classes])
    output = denoiser(torch.randn(2, channels, size, size), torch.tensor([1, 999]), labels)
    assert output.shape == (2, ratio * channels, size, size)
    assert denoiser.out_channels == ratio * channels
    assert (denoiser.null_label, denoiser.patch_size) == (classes, patch_size)


def test_a_patch_size_that_does_not_divide_the_latents_is_refused():
    with pytest.raises(ValueError, match=r"patch_size \(3\) must divide the latent size \(16 x 16\)"):
        build("uvit-s", 4, 16, 3, 1000)


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo"])
def test_labels_outside_the_classes_are_refused(name):
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, 5)
    for label in (-1, 6):
        with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 5, got " + str(label)):
            denoiser(torch.zeros(1, 4, 4, 4), torch.ones(1), torch.tensor([label]))


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo", "pixart-demo"])
def test_gradient_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    denoiser = build_denoiser(CONFIG.entry("diffusion", name), 4, 4, 2, 5)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    condition = captions(2, 6, 64) if name == "pixart-demo" else torch.tensor([0, 5])
    latents, timesteps = torch.randn(2, 4, 4, 4), torch.tensor([3, 500])
    gradients, blocks = [], [each for each in denoiser.modules() if type(each).__name__.endswith("Block")]
    for denoiser.gradient_checkpointing in (False, True):
        runs = []
        handles = [block.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1)) for block in blocks]
        denoiser.zero_grad()
        denoiser(latents, timesteps, condition).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in denoiser.parameters()])
        assert len(runs) == len(blocks) * (2 if denoiser.gradient_checkpointing else 1)
        for handle in handles:
            handle.remove()
    assert all(torch.equal(plain, checkpointed) for plain, checkpointed in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", sorted(CONFIG.files("diffusion")))
def test_every_entry_fits_its_recipe(name):
    entry = CONFIG.entry("diffusion", name)
    recipe = CONFIG.entry("recipes", entry.recipe)
    assert recipe.kind == "diffusion"
    assert entry.unfit(recipe) is None


@pytest.mark.parametrize(
    ("name", "recipe", "changes", "message"),
    [
        ("dit-s", "uvit", {}, "objective of uvit is epsilon, but a dit is trained for epsilon-learned-range"),
        ("uvit-s", "dit", {}, "is epsilon-learned-range, but a u-vit is trained for epsilon or velocity"),
        ("uvit-s", "usit", {}, "is velocity and sampler is dpm-solver++, but velocity and ode go together"),
        ("usit-h", "uvit", {}, "is epsilon and sampler is ode, but velocity and ode go together"),
        ("uvit-s", "uvit", {"sampler": "ddpm"}, "is epsilon, but sampler ddpm needs a learned variance"),
    ],
)
def test_recipes_that_do_not_fit_are_found(name, recipe, changes, message):
    assert message in changed(name, **changes).unfit(CONFIG.entry("recipes", recipe))


def changed(name: str, **changes) -> DiffusionEntry:
    return DiffusionEntry.model_validate({**CONFIG.entry("diffusion", name).model_dump(), **changes})


def test_entries_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="kind is dit and conditioning is caption, but pixart and caption go together"):
        changed("dit-demo", conditioning="caption")
    with pytest.raises(ValueError, match="text_encoder is missing: a pixart has it"):
        changed("pixart-demo", text_encoder=None)
    with pytest.raises(ValueError, match="caption_channels is given: a pixart has it, and no other"):
        changed("uvit-demo", caption_channels=64)
    with pytest.raises(ValueError, match=r"caption_channels is 32, text_encoder\.config\.d_model is 64"):
        changed("pixart-demo", caption_channels=32)
    with pytest.raises(ValueError, match=r"guidance_scale is 1\.5, but conditioning is none: set it to 1"):
        changed("dit-demo", conditioning="none")


def test_unconditional_networks_take_no_notice_of_classes():
    denoiser = build_denoiser(changed("uvit-demo", conditioning="none", guidance_scale=1), 4, 4, 2, classes=5)
    assert denoiser.null_label == 0 and denoiser.label_embedding is None


# --- PixArt-α ---


def test_pixart_sees_its_captions_and_not_their_padding():
    torch.manual_seed(0)
    denoiser = build_denoiser(CONFIG.entry("diffusion", "pixart-demo"), 32, 4, 1, 0)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents, timesteps, given = torch.randn(2, 32, 4, 4), torch.tensor([0, 999]), captions(2, 6, 64)
    given.mask[:, 3:] = False
    output = denoiser(latents, timesteps, given)
    assert output.shape == (2, 64, 4, 4) and denoiser.out_channels == 64

    given.embeddings[:, 3:] += 1
    assert torch.equal(denoiser(latents, timesteps, given), output)
    given.embeddings[0, 2] += 1
    changed_output = denoiser(latents, timesteps, given)
    assert not torch.allclose(changed_output[0], output[0]) and torch.equal(changed_output[1], output[1])


def test_pixart_begins_as_its_authors_let_it():
    denoiser = build_denoiser(CONFIG.entry("diffusion", "pixart-demo"), 4, 16, 2, 0)
    network, width = denoiser.transformer, 128
    assert torch.count_nonzero(denoiser(torch.randn(1, 4, 16, 16), torch.ones(1), captions(1, 6, 64))) == 0
    for block in network.transformer_blocks:
        assert torch.count_nonzero(block.attn2.to_out[0].weight) == 0
        # Xavier-uniform over what is one layer in the release: limit sqrt(6 / (inputs + all outputs)).
        for layer, outputs in ((block.attn1.to_k, 3), (block.attn2.to_v, 2), (block.attn2.to_q, 1)):
            limit = (6 / ((1 + outputs) * width)) ** 0.5
            assert 0.99 * limit < layer.weight.abs().max() <= limit
    # A deviation from n values errs by 1 / sqrt(2n), 0.6 % for the smallest of these.
    embedder = network.adaln_single.emb.timestep_embedder
    for layer in (
        embedder.linear_1,
        embedder.linear_2,
        network.adaln_single.linear,
        network.caption_projection.linear_1,
    ):
        assert abs(layer.weight.std() / 0.02 - 1) < 0.03


def test_pixart_needs_captions_of_its_channels():
    denoiser = build_denoiser(CONFIG.entry("diffusion", "pixart-demo"), 4, 4, 2, 0)
    inputs = torch.randn(1, 4, 4, 4), torch.ones(1)
    with pytest.raises(ValueError, match=r"pixart is conditioned on captions .*, got Tensor"):
        denoiser(*inputs, torch.tensor([0]))
    with pytest.raises(ValueError, match="caption_channels is 64, the captions have 32"):
        denoiser(*inputs, captions(1, 6, 32))

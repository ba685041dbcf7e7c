# SPDX-License-Identifier: Apache-2.0
"""What DC-AE offers to trainings: recomputation, less to keep for frozen layers, posteriors, reduced precision."""

import pytest
import torch
from torch import nn

from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.training.layers import freeze_all_but
from evaluation.efficiency.cost import bytes_kept_for_backward
from tests.autoencoders.small import STAGES, dc_ae


def gradients(autoencoder, images) -> dict[str, torch.Tensor]:
    (images - autoencoder(images)).abs().mean().backward()
    return {name: parameter.grad for name, parameter in autoencoder.named_parameters()}


# --- recomputation ---


@pytest.mark.parametrize("stages", [True, [1], [2, 3]])
def test_recomputing_stages_changes_no_gradient_and_no_statistic(stages):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    results = []
    for recomputed in (False, stages):
        autoencoder = load(dc_ae(), seed=1).train()
        autoencoder.set_gradient_checkpointing(recomputed)
        results.append((gradients(autoencoder, images), dict(autoencoder.named_buffers())))
    for before, after in zip(*results, strict=True):
        assert before.keys() == after.keys()
        for name in before:  # the same operations on the same numbers: the same bits
            assert torch.equal(before[name], after[name]), name


def test_recomputed_stages_keep_their_input_alone():
    images = torch.rand(2, 3, 64, 64)
    autoencoder = load(dc_ae()).train()
    kept = []
    for stages in (False, [1], [1, 2], True):
        autoencoder.set_gradient_checkpointing(stages)
        kept.append(bytes_kept_for_backward(lambda: autoencoder(images)))
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0] / 3


def test_stages_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"gradient_checkpointing: unnamed has the stages 0 to 3, got \[4, 9\]"):
        load(dc_ae()).set_gradient_checkpointing([1, 4, 9])


# --- memory of the phases ---


def narrow(name: str, divided_by: int = 8) -> dict:
    """An entry's autoencoder with narrower stages."""
    entry = Config().entry("autoencoders", name)
    stages = entry.stages.model_dump(exclude_none=True)
    stages["widths"] = [width // divided_by for width in stages["widths"]]
    sizes = {"spatial_compression": entry.spatial_compression, "latent_channels": entry.latent_channels // divided_by}
    return {"kind": "dc-ae", "head_dim": 32 // divided_by, "stages": stages, **sizes}


def test_training_the_middle_keeps_at_least_2_27_times_less_than_training_everything():
    """The paper's ratio of memory is 153.98 GB / 67.81 GB (section 3.2), weights, optimiser and LPIPS included."""
    autoencoder = load(narrow("dc-ae-f64c128"))
    images = torch.rand(1, 3, 256, 256)
    kept = {}
    for trains in ("all", "middle", "decoder-head"):
        freeze_all_but(autoencoder, trains)
        kept[trains] = bytes_kept_for_backward(lambda: autoencoder(images))
    assert kept["all"] / kept["middle"] > 2.27
    assert kept["decoder-head"] < kept["middle"] / 4


def test_a_frozen_batchnorm_keeps_nothing_and_computes_the_same():
    autoencoder = load(dc_ae()).eval()
    norm = next(module for module in autoencoder.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, norm.num_features, 8, 8, requires_grad=True)
    expected = norm(x)
    norm.requires_grad_(False)
    assert bytes_kept_for_backward(lambda: norm(x)) <= 4 * norm.num_features  # the scale of each channel
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-6)  # the same formula in another order


@pytest.mark.parametrize("kind", ["EfficientViTBlock", "ResBlock"])
def test_gradients_of_blocks_are_those_of_their_definition(kind):
    """Norms and gates have backward passes of their own; finite differences know only the forward pass."""
    autoencoder = load(dc_ae(), seed=2).double()
    block = next(block for block in autoencoder.encoder.blocks() if type(block).__name__ == kind)
    x = torch.randn(1, 16 if kind == "ResBlock" else 32, 3, 3, dtype=torch.float64, requires_grad=True)
    scale = next(module for name, module in block.named_modules() if name.endswith("norm")).weight
    assert torch.autograd.gradcheck(lambda x, _scale: block(x), (x, scale), atol=1e-5, rtol=1e-3)


# --- variational ---


def test_a_variational_dc_ae_encodes_the_means_of_its_posteriors():
    autoencoder = load(dc_ae(variational=True), seed=3)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior = autoencoder.posterior(images)
        latents = autoencoder.encode(images)
    assert latents.shape == posterior.std.shape == (2, 8, 4, 4)
    assert torch.equal(latents, posterior.mode())
    expected = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).sum(dim=(1, 2, 3))
    torch.testing.assert_close(posterior.kl(), expected)


def test_without_noise_a_variational_dc_ae_is_the_plain_one():
    plain, variational = load(dc_ae(), seed=3), load(dc_ae(variational=True), seed=4)
    weights = plain.state_dict()
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])])
    variational.load_state_dict(weights)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(variational(images), plain(images), rtol=1e-5, atol=1e-6)


def test_a_plain_dc_ae_has_no_posterior():
    with pytest.raises(TypeError, match="its entry does not say variational: true"):
        load(dc_ae()).posterior(torch.zeros(1, 3, 32, 32))


# --- blocks ---


def test_transformer_blocks_take_the_places_of_efficientvit_blocks():
    blocks = [kind.replace("EfficientViT", "Transformer") for kind in STAGES["encoder_blocks"]]
    autoencoder = load(dc_ae({"encoder_blocks": blocks, "decoder_blocks": blocks}))
    images = torch.rand(2, 3, 32, 32)
    assert autoencoder(images).shape == images.shape
    # Attention is global within a block: each output pixel of it depends on each input pixel.
    block = next(block for block in autoencoder.encoder.blocks() if type(block).__name__ == "TransformerBlock")
    x = torch.randn(1, 32, 4, 4, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


# --- precision ---

LARGEST_ERROR = {torch.bfloat16: 0.03, torch.float16: 0.004}  # 8 and 11 bits, through some twenty layers


@pytest.mark.parametrize("side", [16, 64])  # quadratic and linear attention
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=str)
def test_half_precision_and_autocast_stay_close_to_fp32(dtype, side):
    # Heads as wide as the real ones: in narrow ones a pixel's queries may all be negative, and attention jumps there.
    autoencoder = load(dc_ae(head_dim=32), seed=1)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = autoencoder(images)
        with torch.autocast("cpu", dtype):
            under_autocast = autoencoder(images)
        converted = autoencoder.to(dtype)(images.to(dtype))
    assert converted.dtype == dtype
    for outputs in (under_autocast, converted):
        assert outputs.isfinite().all()
        assert (outputs - expected).norm() < LARGEST_ERROR[dtype] * expected.norm()


@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=str)
def test_gradients_under_autocast_point_where_those_in_fp32_do(dtype):
    torch.manual_seed(0)  # where an error's sign is a matter of rounding, its gradient is, too: 0.992 to 0.9996 by seed
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    results = []
    for enabled in (False, True):
        autoencoder = load(dc_ae(), seed=1).train()
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss = (images - autoencoder(images)).abs().mean()
        loss.backward()
        assert {parameter.grad.dtype for parameter in autoencoder.parameters()} == {torch.float32}
        results.append(torch.cat([parameter.grad.flatten() for parameter in autoencoder.parameters()]))
    assert nn.functional.cosine_similarity(*results, dim=0) > 0.98

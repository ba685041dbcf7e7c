# SPDX-License-Identifier: Apache-2.0
"""U-ViT against an independent forward pass in float64, and its initialisation."""

import math

import numpy as np
import torch

from dcae.diffusion.models.u_vit import UViT

DEPTH, WIDTH, HEADS, CHANNELS, SIZE, PATCH, CLASSES = 4, 16, 2, 3, 4, 2, 5


def a_u_vit(**options) -> UViT:
    torch.manual_seed(0)
    return UViT(DEPTH, WIDTH, HEADS, CHANNELS, SIZE, PATCH, CLASSES, **options)


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def attention(x, w, name):
    q, k, v = np.split(x @ w[f"{name}.qkv.weight"].T, 3, axis=-1)
    head = WIDTH // HEADS
    out = np.empty_like(x)
    for i in range(HEADS):
        part = slice(i * head, (i + 1) * head)
        scores = np.exp(q[:, part] @ k[:, part].T / math.sqrt(head))
        out[:, part] = scores / scores.sum(-1, keepdims=True) @ v[:, part]
    return out @ w[f"{name}.proj.weight"].T + w[f"{name}.proj.bias"]


def block(x, w, name, skip=None):
    if skip is not None:
        x = np.concatenate([x, skip], -1) @ w[f"{name}.skip_linear.weight"].T + w[f"{name}.skip_linear.bias"]
    x = x + attention(layer_norm(x, w[f"{name}.norm1.weight"], w[f"{name}.norm1.bias"]), w, f"{name}.attn")
    hidden = layer_norm(x, w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"]) @ w[f"{name}.mlp.fc1.weight"].T
    hidden = hidden + w[f"{name}.mlp.fc1.bias"]
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return x + hidden @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"]


def forward(w, latents, timestep, label):
    """One sample, step by step as in the paper's figure 1: tokens are label, time, then patches by rows."""
    frequencies = [10_000 ** (-i / (WIDTH // 2)) for i in range(WIDTH // 2)]
    time = [math.cos(timestep * f) for f in frequencies] + [math.sin(timestep * f) for f in frequencies]
    tokens = [w["label_embedding.weight"][label], np.array(time)]
    side = SIZE // PATCH
    for row in range(side):
        for column in range(side):
            patch = latents[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            kernel = w["patch_embedding.proj.weight"].reshape(WIDTH, -1)
            tokens.append(kernel @ patch.reshape(-1) + w["patch_embedding.proj.bias"])
    x = np.stack(tokens) + w["position_embedding"][0]
    first = block(x, w, "in_blocks.0")
    second = block(first, w, "in_blocks.1")
    x = block(second, w, "mid_block")
    x = block(x, w, "out_blocks.0", second)
    x = block(x, w, "out_blocks.1", first)
    x = layer_norm(x, w["norm.weight"], w["norm.bias"])[2:] @ w["output.weight"].T + w["output.bias"]
    out = np.empty((CHANNELS, SIZE, SIZE))
    for number, values in enumerate(x.reshape(-1, PATCH, PATCH, CHANNELS)):
        row, column = divmod(number, side)
        place = (slice(None), slice(row * PATCH, (row + 1) * PATCH), slice(column * PATCH, (column + 1) * PATCH))
        out[place] = values.transpose(2, 0, 1)
    return out


def test_forward_is_that_of_the_paper():
    u_vit = a_u_vit()
    for parameter in u_vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {name: value.double().numpy() for name, value in u_vit.state_dict().items()}
    latents, timesteps, labels = (
        torch.randn(2, CHANNELS, SIZE, SIZE),
        torch.tensor([1, 967]),
        torch.tensor([2, CLASSES]),
    )
    with torch.no_grad():
        output = u_vit(latents, timesteps, labels).double().numpy()
    for i in range(2):
        expected = forward(weights, latents[i].double().numpy(), int(timesteps[i]), int(labels[i]))
        # float32 against float64
        np.testing.assert_allclose(output[i], expected, atol=2e-4)


def test_the_final_convolution_sees_the_prediction():
    with_convolution, without = a_u_vit(final_convolution=True), a_u_vit()
    without.load_state_dict({k: v for k, v in with_convolution.state_dict().items() if "final_convolution" not in k})
    inputs = torch.randn(2, CHANNELS, SIZE, SIZE), torch.tensor([1, 5]), torch.tensor([0, 1])
    assert torch.equal(with_convolution(*inputs), with_convolution.final_convolution(without(*inputs)))


def test_initialisation_is_the_original():
    u_vit = UViT(2, 256, 4, 4, 16, 2, 999)
    for weight in (u_vit.mid_block.attn.qkv.weight, u_vit.output.weight, u_vit.position_embedding):
        # Truncated at a hundred deviations, so in effect a normal distribution.
        assert abs(weight.std() / 0.02 - 1) < 0.03
    assert u_vit.mid_block.attn.qkv.bias is None
    linear = [layer for layer in u_vit.modules() if isinstance(layer, torch.nn.Linear) and layer.bias is not None]
    assert len(linear) == 3 * 3 + 1 + 1 and all(torch.count_nonzero(layer.bias) == 0 for layer in linear)
    norms = [layer for layer in u_vit.modules() if isinstance(layer, torch.nn.LayerNorm)]
    assert all((layer.weight == 1).all() and (layer.bias == 0).all() and layer.eps == 1e-5 for layer in norms)
    assert abs(u_vit.label_embedding.weight.std() - 1) < 0.01
    limit = 1 / math.sqrt(4 * 2 * 2)
    assert 0.9 * limit < u_vit.patch_embedding.proj.weight.abs().max() <= limit

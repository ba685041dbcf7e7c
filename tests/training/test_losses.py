# SPDX-License-Identifier: Apache-2.0
"""The terms of the loss, LPIPS and the discriminator."""

from __future__ import annotations

from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from dcae.benchmark.entries import NetworkWeights
from dcae.training import perceptual
from dcae.training.gan import PatchDiscriminator
from dcae.training.losses import adaptive_weight, discriminator_hinge_loss, generator_hinge_loss, kl_per_value
from dcae.training.perceptual import perceptual_network
from dcae.weights.catalogue import WeightsError

RANDOM_ALEX = NetworkWeights(network="alex", weights="random", seed=3)


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 64, 64, generator=random) * 2 - 1, torch.rand(2, 3, 64, 64, generator=random) * 2 - 1


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
    # real: max(0, 1 - x) = 0, 0.5, 2; fake: max(0, 1 + x) = 0, 1, 2
    assert discriminator_hinge_loss(real, fake).item() == pytest.approx(0.5 * (2.5 / 3 + 3 / 3))
    assert generator_hinge_loss(fake).item() == pytest.approx(1 / 3)


def test_the_adaptive_weight_equalises_gradients_and_is_bounded():
    weight = adaptive_weight(torch.full((4,), 3.0), torch.full((4,), 0.5), 1)
    assert weight.item() == pytest.approx(6.0, rel=1e-3)
    assert adaptive_weight(torch.full((4,), 1e9), torch.zeros(4), 1).item() == 1e4
    assert adaptive_weight(torch.full((4,), 1e9), torch.zeros(4), 100).item() == 100


def test_kl_is_counted_per_value_of_the_image():
    images = torch.zeros(2, 3, 8, 8)
    assert kl_per_value(torch.tensor([192.0, 384.0]), images).item() == pytest.approx(1.5)


def test_the_discriminator_is_that_of_pix2pix():
    discriminator = PatchDiscriminator()
    # 2.765 M parameters for three layers of width 64 (pix2pix prints 2.769 M for its six input channels).
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 2_765_633
    (logits,) = discriminator(torch.zeros(1, 3, 256, 256))
    assert logits.shape == (1, 1, 30, 30)


def test_a_logit_sees_70_by_70_pixels():
    discriminator = PatchDiscriminator(width=8).eval()
    image = torch.zeros(1, 3, 256, 256, requires_grad=True)
    discriminator(image)[0][0, 0, 15, 15].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_batches_have_statistics_of_their_own():
    discriminator = PatchDiscriminator(layers=2, width=8)
    a, b = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32) * 5
    together = discriminator(a, b)
    torch.testing.assert_close(together[0], discriminator(a)[0], rtol=0, atol=0)
    torch.testing.assert_close(together[1], discriminator(b)[0], rtol=0, atol=0)


def trunk_file(folder: Path, features: torch.nn.Module) -> Path:
    """A file of torchvision's layout with random weights for these layers."""
    content = {f"features.{name}": torch.randn(value.shape) / 10 for name, value in features.state_dict().items()}
    save_file(content, folder / "trunk.safetensors")
    return folder / "trunk.safetensors"


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision.models._utils")  # of lpips itself
def test_lpips_with_a_trunk_from_a_file_equals_lpips_made_of_torchvision(tmp_path, monkeypatch, images):
    source = torchvision.models.alexnet().features
    path = trunk_file(tmp_path, source)
    source.load_state_dict({name.removeprefix("features."): value for name, value in load_file(path).items()})
    monkeypatch.setattr(perceptual, "find", lambda name: path)
    ours = perceptual_network(NetworkWeights(network="alex", weights="named"))

    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for part in (getattr(theirs.net, f"slice{i}") for i in range(1, 6)):
        for number, layer in part.named_children():
            layer.load_state_dict(source[int(number)].state_dict())
    torch.testing.assert_close(ours(*images), theirs(*images), rtol=0, atol=0)


def test_all_of_vgg_is_filled_from_a_file(tmp_path, monkeypatch):
    with torch.device("meta"):
        source = torchvision.models.vgg16().features
    monkeypatch.setattr(perceptual, "find", lambda name: trunk_file(tmp_path, source))
    network = perceptual_network(NetworkWeights(network="vgg", weights="named"))
    filled = torch.cat([value.flatten() for value in network.net.state_dict().values()])
    assert len(filled) == 14_714_688  # VGG16 without its classifier
    expected = torch.cat([value.flatten() for value in load_file(tmp_path / "trunk.safetensors").values()])
    assert filled.sum().item() == pytest.approx(expected.sum().item(), rel=1e-3)


def test_a_file_that_does_not_fit_the_trunk_is_refused(tmp_path, monkeypatch):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    monkeypatch.setattr(perceptual, "find", lambda name: tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=r"wrong\.pth does not fit .*features\.0\.weight"):
        perceptual_network(NetworkWeights(network="alex", weights="named"))


def test_other_linear_heads_than_those_of_lpips_are_refused(monkeypatch):
    monkeypatch.setitem(perceptual.HEADS, "alex", "0" * 64)
    with pytest.raises(WeightsError, match=r"alex\.pth: these are not the linear heads of LPIPS 0\.1"):
        perceptual_network(NetworkWeights(network="alex", weights="random", seed=0))


def test_random_lpips_is_a_function_of_its_seed_alone(images):
    first = perceptual_network(RANDOM_ALEX)(*images)
    torch.manual_seed(99)
    assert torch.equal(perceptual_network(RANDOM_ALEX)(*images), first)
    other = perceptual_network(RANDOM_ALEX.model_copy(update={"seed": 4}))
    assert not torch.equal(other(*images), first)


def test_random_lpips_orders_distortions(images):
    """Random features are no perception, but a little noise must cost less than a lot, and nothing nothing."""
    network = perceptual_network(RANDOM_ALEX)
    image, noise = images
    distances = [network(image, image + strength * noise).mean().item() for strength in (0.0, 0.05, 0.2, 0.8)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[-1] < 10


def test_gradients_reach_the_images_and_not_the_network(images):
    network = perceptual_network(RANDOM_ALEX)
    image = images[1].requires_grad_()
    network(images[0], image).mean().backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="alex and vgg, got 'squeeze'"):
        perceptual_network(NetworkWeights(network="squeeze", weights="random"))

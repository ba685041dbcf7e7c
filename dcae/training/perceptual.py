# SPDX-License-Identifier: Apache-2.0
"""LPIPS (Zhang et al. 2018), as a training loss and as a metric: the lpips package with verified weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import torch
from safetensors.torch import load_file
from torch import nn

from dcae.benchmark.entries import NetworkWeights
from dcae.files import sha256
from dcae.initialisation import SkipInitialisation, seeded_random_init
from dcae.weights.catalogue import WeightsError, find

# Files of the lpips package, which loads them unchecked.
HEADS = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}


def perceptual_network(weights: NetworkWeights) -> nn.Module:
    """Return LPIPS: ``network(a, b)`` gives distances [B, 1, 1, 1] of images [B, 3, H, W] in [-1, 1].

    The linear heads are those of the lpips package (version 0.1), by sha256. The trunk has torchvision's ImageNet
    weights from a verified file, or random weights from a seed. Nothing is downloaded. The network is in evaluation
    mode and frozen; gradients flow to both images.

    Raises:
        ValueError: ``weights.network`` is neither ``alex`` nor ``vgg``.
        WeightsError: the file is missing, differs or does not fit the trunk, or the package has other heads.
    """
    if weights.network not in HEADS:
        raise ValueError(f"LPIPS has the networks alex and vgg, got {weights.network!r}")
    _check_heads(weights.network)
    with warnings.catch_warnings(), SkipInitialisation():
        # lpips 0.1.4 uses a renamed argument of torchvision.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models._utils")
        network = lpips.LPIPS(net=weights.network, pnet_rand=True, verbose=False)
    if weights.random:
        seeded_random_init(network.net, weights.seed)
    else:
        _load_trunk(network.net, find(weights.weights))
    return network.requires_grad_(False).eval()


def _check_heads(network: str) -> None:
    path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{network}.pth"
    found = sha256(path) if path.is_file() else "no file"
    if found != HEADS[network]:
        raise WeightsError(
            f"{path}: these are not the linear heads of LPIPS 0.1 (sha256 {found}, expected {HEADS[network]}); "
            "install the lpips package anew"
        )


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    """Load torchvision's AlexNet or VGG16 into LPIPS' trunk, which splits ``features`` into ``slice1`` … ``slice5``."""
    stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    wanted = trunk.state_dict()  # slice2.3.weight is features.3.weight
    names = {name: "features." + name.split(".", 1)[1] for name in wanted}
    unfit = [old for new, old in names.items() if old not in stored or stored[old].shape != wanted[new].shape]
    if unfit:
        raise WeightsError(
            f"{path} does not fit this trunk of LPIPS: {', '.join(unfit[:3])} missing or of another shape"
        )
    trunk.load_state_dict({new: stored[old] for new, old in names.items()})

# SPDX-License-Identifier: Apache-2.0
"""Inception features for FID (Szegedy et al. 2015, TensorFlow weights of 2015-12-05).

The libraries of the field use the same network, but resize images to its 299 x 299 pixels in different ways. That moves
FID by more than most papers improve it, so the resize is part of a protocol.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid.resize import build_resizer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import (
    BasicConv2d,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE_1,
    InceptionE_2,
)
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from dcae.benchmark.entries import NetworkWeights, Protocol
from dcae.initialisation import seeded_random_init
from dcae.weights.catalogue import find

SIZE = (299, 299)


# --- resizing uint8 images [B, 3, H, W] to the network's input, float32 [B, 3, 299, 299] ----------------------------


def resize_bilinear(images: Tensor) -> Tensor:
    """Resize as pytorch-fid and DC-AE do: bilinear without antialiasing, to [-1, 1]."""
    return F.interpolate(images.float() / 255, size=SIZE, mode="bilinear", align_corners=False) * 2 - 1


def resize_tensorflow1(images: Tensor) -> Tensor:
    """Resize as torch-fidelity does: TensorFlow 1's bilinear, which is half a pixel off, and (x - 128) / 128."""
    resized = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=SIZE, align_corners=False)
    return (resized - 128) / 128


def resize_clean(images: Tensor) -> Tensor:
    """Resize by clean-fid's own function: PIL's antialiased bicubic in float, clamped, not rounded. Runs on the CPU."""
    resize = build_resizer("clean")
    resized = np.stack(
        [resize(image.permute(1, 2, 0).numpy()) for image in images.cpu()]
    )  # [B, 299, 299, 3], 0 ... 255
    return (torch.from_numpy(resized).permute(0, 3, 1, 2).to(images.device) - 128) / 128


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "bilinear": resize_bilinear,
    "tensorflow1": resize_tensorflow1,
    "clean": resize_clean,
}


# --- the network ----------------------------------------------------------------------------------------------------


def inception_layers() -> nn.Sequential:
    """Return the network from images [B, 3, 299, 299] to pool features [B, 2048], uninitialised.

    The blocks are torch-fidelity's, under the names of the weight file. Its own class around them downloads weights if
    it is created without a file, and loads files with pickle.
    """
    return nn.Sequential(
        OrderedDict(
            Conv2d_1a_3x3=BasicConv2d(3, 32, kernel_size=3, stride=2),
            Conv2d_2a_3x3=BasicConv2d(32, 32, kernel_size=3),
            Conv2d_2b_3x3=BasicConv2d(32, 64, kernel_size=3, padding=1),
            MaxPool_1=nn.MaxPool2d(kernel_size=3, stride=2),  # [B, 64, 73, 73]
            Conv2d_3b_1x1=BasicConv2d(64, 80, kernel_size=1),
            Conv2d_4a_3x3=BasicConv2d(80, 192, kernel_size=3),
            MaxPool_2=nn.MaxPool2d(kernel_size=3, stride=2),  # [B, 192, 35, 35]
            Mixed_5b=InceptionA(192, pool_features=32),
            Mixed_5c=InceptionA(256, pool_features=64),
            Mixed_5d=InceptionA(288, pool_features=64),
            Mixed_6a=InceptionB(288),  # [B, 768, 17, 17]
            Mixed_6b=InceptionC(768, channels_7x7=128),
            Mixed_6c=InceptionC(768, channels_7x7=160),
            Mixed_6d=InceptionC(768, channels_7x7=160),
            Mixed_6e=InceptionC(768, channels_7x7=192),
            Mixed_7a=InceptionD(768),  # [B, 1280, 8, 8]
            Mixed_7b=InceptionE_1(1280),
            Mixed_7c=InceptionE_2(2048),
            AvgPool=nn.AdaptiveAvgPool2d(1),
            Flatten=nn.Flatten(),
        )
    )


def load_inception(weights: NetworkWeights, device: str | torch.device = "cpu") -> nn.Sequential:
    """Load the network with the weights that a protocol names, or with random ones of its seed.

    Raises:
        ValueError: the protocol names another network than inception-v3.
        WeightsError: the weight file is missing or has the wrong content.
    """
    if weights.network != "inception-v3":
        raise ValueError(
            f"FID needs features of inception-v3 or scene-classifier; the protocol says {weights.network!r}"
        )
    with torch.device("meta"):  # initial values would be thrown away
        network = inception_layers()
    network.to_empty(device="cpu")
    if weights.random:
        seeded_random_init(network, weights.seed)
    else:
        state = torch.load(find(weights.weights), map_location="cpu", weights_only=True)
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})
    # channels_last: 1.6 times faster on a CPU, and what tensor cores want.
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def fold_batch_norm(network: nn.Sequential) -> nn.Sequential:
    """Fold each BatchNorm into the convolution before it, in place: a tenth faster, equal to 1e-6."""
    for block in network.modules():
        if isinstance(block, BasicConv2d) and isinstance(block.bn, nn.BatchNorm2d):
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
    return network.to(memory_format=torch.channels_last)


class InceptionFeatures(nn.Module):
    """Computes features for FID, with the resize of a protocol.

    Args:
        protocol: names network, weights and resize.
        device: where the network runs.
        network: a loaded one, to share it between protocols.
    """

    def __init__(self, protocol: Protocol, device: str | torch.device = "cpu", network: nn.Sequential | None = None):
        super().__init__()
        self.network = fold_batch_norm(network or load_inception(protocol.inception, device))
        self.resize = RESIZES[protocol.inception_resize]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32 [B, 2048], of uint8 images [B, 3, H, W], on the network's device.

        Raises:
            TypeError: images are not uint8; each library would round them in its own way.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"expected uint8 images, got {images.dtype}")
        resized = self.resize(images.to(next(self.network.parameters()).device))
        return self.network(resized.contiguous(memory_format=torch.channels_last))

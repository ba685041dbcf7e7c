# SPDX-License-Identifier: Apache-2.0
"""Control autoencoder: the best linear code of squares of pixels, by principal components of training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder
from dcae.benchmark.entries import DatasetEntry
from dcae.data.loading import open_dataset

BATCH = 256


class PatchPCA(Autoencoder):
    """Codes each square of f x f pixels by its ``c`` first principal components.

    Args:
        mean: of the squares, [3ff], channel by channel as ``pixel_unshuffle`` orders them.
        components: orthonormal, [c, 3ff], the one of the largest variance first.
        latent_scale: 1 over the RMS of the components' values.
    """

    def __init__(self, mean: Tensor, components: Tensor, latent_scale: float):
        latent_channels, values = components.shape
        super().__init__(round((values / 3) ** 0.5), latent_channels, latent_scale)
        self.mean = nn.Parameter(mean, requires_grad=False)
        self.components = nn.Parameter(components, requires_grad=False)

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        squares = F.pixel_unshuffle(images, self.spatial_compression) - self.mean[:, None, None]
        return F.conv2d(squares, self.components[:, :, None, None])  # [B, c, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:
        squares = F.conv_transpose2d(latents, self.components[:, :, None, None], self.mean)
        return F.pixel_shuffle(squares, self.spatial_compression)


def principal_components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean [D], the first principal components [count, D], orthonormal, and their variances, of rows [N, D].

    Raises:
        ValueError: ``count`` components do not follow from so few rows.
    """
    number, values = rows.shape
    if count > min(number - 1, values):
        raise ValueError(
            f"{number} squares of {values} numbers have no {count} principal components: fit on more images"
        )
    mean = rows.mean(axis=0)
    centred = rows - mean
    wide = number < values  # then the smaller matrix is that of scalar products of rows
    moments = centred @ centred.T if wide else centred.T @ centred
    largest = (len(moments) - count, len(moments) - 1)
    squares, vectors = scipy.linalg.eigh(moments, subset_by_index=largest, overwrite_a=True, check_finite=False)
    components = (centred.T @ vectors if wide else vectors)[:, ::-1].T
    return mean, components / np.linalg.norm(components, axis=1, keepdims=True), squares[::-1] / number


def patch_pca(
    spatial_compression: int, latent_channels: int, dataset: Mapping[str, Any], resolution: int, images: int
) -> PatchPCA:
    """Fit a ``PatchPCA`` on the first training images of a dataset; the factory of the entries ``patch-pca-*``.

    Args:
        dataset: fields of a dataset's entry; the entry of the autoencoder has them whole, so that its results are
            known by them.
        resolution: in pixels, of the images that it is fitted on.
        images: number of them.
    """
    values = 3 * spatial_compression**2
    if torch.empty(0).device.type == "meta":  # shapes alone
        return PatchPCA(torch.empty(values), torch.empty(latent_channels, values), 1.0)
    entry = TypeAdapter(DatasetEntry).validate_python({"name": "of-patch-pca", **dataset})
    opened = open_dataset(entry, "train", resolution)
    parts = []
    for start in range(0, images, BATCH):
        batch = opened.batch(range(start, min(start + BATCH, images))).float() / 127.5 - 1
        parts.append(F.pixel_unshuffle(batch, spatial_compression).permute(0, 2, 3, 1).reshape(-1, values).numpy())
    mean, components, variances = principal_components(np.concatenate(parts), latent_channels)
    scale = float(variances.mean() ** -0.5)
    return PatchPCA(torch.from_numpy(mean), torch.from_numpy(np.ascontiguousarray(components)), scale)

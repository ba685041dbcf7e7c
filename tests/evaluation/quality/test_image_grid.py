# SPDX-License-Identifier: Apache-2.0
"""Grids of sample images: what is written comes back, in its place."""

import pytest
import torch

from evaluation.quality.generation import Generation, save_generation_samples
from evaluation.quality.image_grid import GridError, read_grid
from evaluation.quality.reconstruction import Reconstruction, save_reconstruction_samples


def tiles(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_reconstructions_stand_below_their_inputs(tmp_path):
    pairs = tiles(3, 2, 3, 8, 8)
    path = tmp_path / "folder" / "samples.png"
    save_reconstruction_samples(Reconstruction({}, {}, pairs), path)
    grid = torch.from_numpy(read_grid(path, 8).copy())  # [rows, columns, R, R, 3]
    assert grid.shape == (2, 3, 8, 8, 3)
    assert torch.equal(grid.permute(1, 0, 4, 2, 3), pairs)
    assert [each.name for each in path.parent.iterdir()] == ["samples.png"]


def test_each_setting_has_a_row(tmp_path):
    samples = {"without_guidance": tiles(4, 3, 8, 8), "with_guidance": 255 - tiles(4, 3, 8, 8)}
    save_generation_samples(Generation({}, samples), tmp_path / "samples.png")
    grid = torch.from_numpy(read_grid(tmp_path / "samples.png", 8).copy()).permute(0, 1, 4, 2, 3)
    assert torch.equal(grid[0], samples["without_guidance"])
    assert torch.equal(grid[1], samples["with_guidance"])


def test_tiles_of_another_size_are_an_error(tmp_path):
    save_generation_samples(Generation({}, {"without_guidance": tiles(1, 3, 8, 8)}), tmp_path / "samples.png")
    with pytest.raises(GridError, match="8 x 8 pixels"):
        read_grid(tmp_path / "samples.png", 5)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_grid_is_named(tmp_path, keep):
    path = tmp_path / "samples.png"
    save_generation_samples(Generation({}, {"without_guidance": tiles(1, 3, 8, 8)}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(GridError, match=r"samples\.png: damaged .*; delete it"):
        read_grid(path, 8)

# SPDX-License-Identifier: Apache-2.0
"""The order of training images: shares, no replacement within an epoch, and the same order however it is asked for."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcae.data.dataset import ImageDataset
from dcae.data.mixture import BLOCK, Mixture, epoch_index, shares_of_block


class Numbered(ImageDataset):
    """Images that show their dataset, index and epoch in their three channels."""

    def __init__(self, number, images, resolution=1):
        self.number, self.images, self.resolution, self.fingerprint = number, images, resolution, f"{number}-{images}"

    def __len__(self):
        return self.images

    def pixels(self, index, epoch=0):
        return np.tile(
            np.array([self.number, index, epoch], np.uint8)[:, None, None], (1, self.resolution, self.resolution)
        )


def mixture(weights=(3, 1), seed=0, sizes=(200, 70)):
    return Mixture([Numbered(number, size) for number, size in enumerate(sizes)], weights, seed)


@given(st.integers(1, 300), st.integers(0, 2**40), st.integers(0, 5))
def test_an_epoch_takes_every_item_once(n, seed, epoch):
    assert sorted(epoch_index(n, seed, k) for k in range(epoch * n, epoch * n + n)) == list(range(n))


def test_epochs_seeds_and_streams_have_orders_of_their_own():
    def order(seed=0, epoch=0, stream=0):
        return tuple(epoch_index(50, seed, k, stream) for k in range(50 * epoch, 50 * epoch + 50))

    assert len({order(), order(seed=1), order(epoch=1), order(stream=1), tuple(range(50))}) == 5


def test_every_block_holds_the_exact_shares():
    drawn = [mixture().locate(k)[0] for k in range(3 * BLOCK)]
    for block in range(3):
        assert Counter(drawn[block * BLOCK : (block + 1) * BLOCK]) == {0: BLOCK * 3 // 4, 1: BLOCK // 4}
    assert drawn[:BLOCK] != drawn[BLOCK : 2 * BLOCK]


def test_each_data_set_is_drawn_without_replacement():
    located = [mixture().locate(k) for k in range(3 * BLOCK)]
    for number, size in ((0, 200), (1, 70)):
        indices = [(index, epoch) for which, index, epoch in located if which == number]
        for epoch in range(len(indices) // size):
            part = indices[epoch * size : (epoch + 1) * size]
            assert sorted(part) == [(index, epoch) for index in range(size)]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20))
def test_a_draw_depends_on_its_number_alone(draws):
    one, other = mixture(), mixture()
    assert [one.locate(k) for k in draws] == [other.locate(k) for k in reversed(draws)][::-1]


def test_resuming_and_sharing_among_processes_change_nothing():
    whole = mixture().batch(range(1200))
    resumed = torch.cat([mixture().batch(range(0, 700)), mixture().batch(range(700, 1200))])
    shared = torch.empty_like(whole)
    for rank in range(4):
        shared[rank::4] = mixture().batch(range(rank, 1200, 4))
    assert torch.equal(whole, resumed) and torch.equal(whole, shared)


def test_batches_are_the_images_located():
    drawn = mixture()
    batch = drawn.batch(range(500))
    assert batch.dtype == torch.uint8 and batch.shape == (500, 3, 1, 1)
    assert [tuple(image.flatten().tolist()) for image in batch] == [drawn.locate(k) for k in range(500)]
    assert torch.equal(drawn[7], drawn.sample(7))


def test_data_sets_of_one_size_are_not_drawn_in_one_order():
    drawn = mixture((1, 1), sizes=(100, 100))
    located = [drawn.locate(k) for k in range(BLOCK)]
    first, second = ([index for which, index, _ in located if which == number][:100] for number in (0, 1))
    assert first != second


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6).filter(lambda weights: min(weights) / sum(weights) > 0.002)
)
def test_shares_add_up_and_are_within_one_of_exact(weights):
    counts = shares_of_block(weights)
    assert sum(counts) == BLOCK
    assert all(abs(count - weight / sum(weights) * BLOCK) < 1 for count, weight in zip(counts, weights, strict=True))


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1, 0), "positive"), ((1, -1), "positive"), ((1e6, 1), "less than 1/1000"), ((1,), "as many")],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        mixture(weights)


def test_resolutions_must_agree():
    with pytest.raises(ValueError, match="differ in resolution"):
        Mixture([Numbered(0, 5), Numbered(1, 5, resolution=2)], [1, 1], 0)


def test_fingerprint_follows_weights_seed_and_data():
    others = [mixture((1, 1)), mixture(seed=1), mixture(sizes=(200, 71))]
    assert len({mixture().fingerprint, *(other.fingerprint for other in others)}) == 4
    assert mixture().fingerprint == mixture((6, 2)).fingerprint

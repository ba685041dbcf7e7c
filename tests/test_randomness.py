# SPDX-License-Identifier: Apache-2.0
"""Random numbers depend only on their purpose."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dcae.randomness import derived_seed, generator, numbered_generators, per_sample, seeded


@given(first=st.integers(0, 1000), count=st.integers(1, 8), cut=st.integers(0, 8))
def test_draws_of_a_sample_do_not_depend_on_its_neighbours(first, count, cut):
    def draw(random):
        return torch.randn(3, generator=random)

    numbers = range(first, first + count)
    whole = per_sample(draw, numbers, "test", 1)
    cut = min(cut, count)
    parts = [per_sample(draw, part, "test", 1) for part in (numbers[:cut], numbers[cut:]) if part]
    assert torch.equal(whole, torch.cat(parts))


def test_purposes_are_independent_and_the_global_generator_is_left_alone():
    assert len({derived_seed(*purpose) for purpose in ((0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1))}) == 4
    torch.manual_seed(5)
    state = torch.get_rng_state()
    generator(1, "x")
    with seeded(1, "y"):
        inside = torch.rand(1)
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(1, "y"):
        assert torch.equal(torch.rand(1), inside)


def test_draws_look_standard_normal():
    values = per_sample(lambda random: torch.randn(100, generator=random), range(400), 0, "normal")
    # 40,000 values: standard errors of mean and standard deviation are 0.005 and 0.0035; five of them
    assert abs(values.mean().item()) < 0.025
    assert abs(values.std().item() - 1) < 0.018
    between = torch.corrcoef(values[:2])[0, 1].item()  # neighbouring samples, standard error 0.1
    assert abs(between) < 0.5


def drawn_in(seed: int, index: int) -> list[torch.Tensor]:
    """Draws of every kind for one index of a seed."""
    with seeded(seed, "encode", index):
        globally = torch.randn(8)
    (numbered,) = numbered_generators([index], seed, "generated sample")
    each = per_sample(lambda random: torch.randn(8, generator=random), [index], seed, "sample")[0]
    return [globally, torch.randn(8, generator=numbered), each]


def test_a_seed_does_not_run_into_the_next_one():
    for one, other in zip(drawn_in(0, 2**20), drawn_in(1, 0), strict=True):
        assert not torch.equal(one, other)


def test_numbers_of_one_purpose_have_different_streams():
    draws = torch.stack([torch.randn(4, generator=each) for each in numbered_generators(range(3000), 0, "test")])
    assert len(draws.unique(dim=0)) == 3000
    (alone,) = numbered_generators([2999], 0, "test")
    assert torch.equal(torch.randn(4, generator=alone), draws[2999])

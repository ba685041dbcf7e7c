# SPDX-License-Identifier: Apache-2.0
"""Which samples a process gets, and randomness that does not depend on it."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from dcae.training.batches import Batch, batches, share_of_batch, split
from dcae.training.randomness import derived_seed, generator, per_sample, seeded


@given(step=st.integers(0, 10**6), share=st.integers(1, 64), processes=st.integers(1, 16))
def test_the_shares_of_all_processes_are_the_batch_in_order(step, share, processes):
    size = share * processes
    numbers = [n for process in range(processes) for n in share_of_batch(step, size, process, processes)]
    assert numbers == list(range(step * size, (step + 1) * size))


def test_batches_start_and_end_where_they_should():
    found = list(batches(lambda numbers: torch.tensor(list(numbers)), 3, 5, 2, Accelerator(cpu=True)))
    assert [batch.numbers for batch in found] == [[6, 7], [8, 9]]
    assert [batch.content.tolist() for batch in found] == [[6, 7], [8, 9]]


@given(parts=st.integers(1, 5), size=st.integers(1, 4), several=st.booleans())
def test_the_parts_of_a_batch_are_the_batch_in_order(parts, size, several):
    numbers = list(range(10, 10 + parts * size))
    images = torch.tensor(numbers)
    batch = Batch(numbers, (images, -images) if several else images)
    found = split(batch, parts)
    assert [number for part in found for number in part.numbers] == numbers
    assert {len(part.numbers) for part in found} == {size} and len(found) == parts
    for i, sign in ((0, 1), (1, -1)) if several else ((None, 1),):
        tensors = [part.content if i is None else part.content[i] for part in found]
        assert torch.equal(torch.cat(tensors), sign * images)


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

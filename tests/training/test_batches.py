# SPDX-License-Identifier: Apache-2.0
"""Which samples a process gets."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from dcae.training.batches import Batch, batches, share_of_batch, split


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

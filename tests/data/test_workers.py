# SPDX-License-Identifier: Apache-2.0
"""Tasks in several processes: results in order, shared data sent once, errors passed on."""

import os

import pytest

from dcae.data.storage.files import DatasetError
from dcae.data.workers import in_processes


def product(shared: list[int], task: int) -> tuple[int, int]:
    if task == 13:
        raise DatasetError("file 13: cannot be read")
    return shared[0] * task, os.getpid()


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes):
    found = list(in_processes(product, [7], range(12), processes))
    assert [number for number, _ in found] == [7 * task for task in range(12)]
    assert (os.getpid() in {process for _, process in found}) == (processes == 1)
    with pytest.raises(DatasetError, match=r"^file 13: cannot be read$"):
        list(in_processes(product, [7], [1, 13], processes))

# SPDX-License-Identifier: Apache-2.0
"""A call as one CUDA graph: one launch for all its kernels, so that small batches do not wait for Python."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evaluation.efficiency.memory import release

WARM_UPS = 3  # on a stream of its own before the capture, as PyTorch's notes on CUDA graphs have it


def as_cuda_graph(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What replays a call: the same kernels on the same addresses, whose output is the same tensor each time.

    Args:
        call: without anything that waits for the device; its inputs may be changed in place between replays.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    release(torch.device("cuda"))  # the graph has memory of its own, and cannot take what the warm-up has left
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay

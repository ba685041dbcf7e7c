# SPDX-License-Identifier: Apache-2.0
"""Timing of steps: warmed up until stable, timed on the device, repeated; and the device's peak rate."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import median, stdev

import torch
from torch import Tensor

from dcae.benchmark.entries import EfficiencyProtocol
from dcae.benchmark.record import DISAGREEMENT, Value
from evaluation.efficiency.memory import release

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STABLE = 0.02  # largest difference of two parts of a warm-up
MOST_STEPS = 1000  # of a repeat, as in the authors' trtexec --iterations=1000

GRAPH_WARM_UPS = 3  # on a stream of its own before the capture, as in PyTorch's notes on CUDA graphs

Step = Callable[[], object]
Observe = Callable[[], object]


def finish(device: torch.device) -> None:
    """Wait until the device has done all its work; does nothing on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def step_durations(step: Step, count: int, device: torch.device, observe: Observe | None = None) -> list[float]:
    """Return the seconds of each of so many steps in a row.

    On CUDA these are times between events on the device, and the host runs ahead as far as it can: gaps between kernels
    count only where it cannot keep up. Elsewhere each step is timed to its end. ``observe`` is called after the last
    step, on CUDA while the device is still at work.
    """
    finish(device)
    if device.type == "cuda":
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        if observe:
            observe()  # asks the driver, not the device
        finish(device)
        return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(events)]
    durations = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        finish(device)
        durations.append(time.perf_counter() - start)
    if observe:
        observe()
    return durations


def warm_up(step: Step, device: torch.device, protocol: EfficiencyProtocol) -> float:
    """Call a step until its duration is stable or the protocol's time is over. Returns its typical duration in seconds.

    The first call does not count: it compiles, chooses kernels and allocates, and may take minutes where those that
    follow take milliseconds. Stable is a step if the medians of the last steps and of as many before differ by less
    than 2 %, each over half of the protocol's steps. A step that takes longer than the protocol's time is called twice.
    """
    window = max(1, protocol.warmup_steps // 2)
    step()
    durations: list[float] = []
    while not durations or sum(durations) < protocol.warmup_seconds:
        durations += step_durations(step, 1, device)
        if len(durations) >= max(2 * window, protocol.warmup_steps):
            before, last = median(durations[-2 * window : -window]), median(durations[-window:])
            if abs(last - before) < STABLE * before:
                break
    return median(durations[-window:])


def time_of(step: Step, device: torch.device, protocol: EfficiencyProtocol, observe: Observe | None = None) -> Value:
    """Return the median duration of a step in seconds, after warm-up, over the protocol's time and repeats.

    ``observe`` is called at the end of the last repeat, as of ``step_durations``.

    ``n`` is the number of steps, ``repeats`` has the median of each repeat. The standard error is the larger one of
    two: of the median of all steps, with the spread taken from the quartiles, since a busy machine makes outliers; and
    of the mean of the repeats.
    """
    typical = warm_up(step, device, protocol)
    count = min(MOST_STEPS, max(1, math.ceil(protocol.seconds / protocol.repeats / max(typical, 1e-9))))
    last = protocol.repeats - 1
    return summary(
        [step_durations(step, count, device, observe if repeat == last else None) for repeat in range(protocol.repeats)]
    )


def summary(repeats: Sequence[Sequence[float]]) -> Value:
    """Return the durations of several repeats, in seconds, as one value."""
    durations = torch.tensor([each for repeat in repeats for each in repeat], dtype=torch.float64)
    lower, middle, upper = durations.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    deviation = (upper - lower) / 1.349  # quartiles of a normal distribution
    error = math.sqrt(math.pi / 2) * deviation / math.sqrt(len(durations))
    medians = [median(each) for each in repeats]
    return Value(
        value=middle, n=len(durations), standard_error=max(error, error_of_repeats(medians)), unit="s", repeats=medians
    )


def error_of_repeats(repeats: Sequence[float]) -> float:
    """Return the standard error of a mean of repeats; 0 of a single one, which tells nothing about it."""
    return stdev(repeats) / math.sqrt(len(repeats)) if len(repeats) > 1 else 0.0


def throughput(duration: Value, batch_size: int) -> Value:
    """Return images per second from the duration of a batch."""
    rate = batch_size / duration.value
    error = rate * duration.standard_error / duration.value
    repeats = [batch_size / each for each in duration.repeats]
    return Value(value=rate, n=duration.n, standard_error=error, unit="images/s", repeats=repeats)


def milliseconds(duration: Value) -> Value:
    """Convert a duration in seconds to milliseconds."""
    return Value(
        value=1000 * duration.value,
        n=duration.n,
        standard_error=1000 * duration.standard_error,
        unit="ms",
        repeats=[1000 * each for each in duration.repeats],
    )


def disagreements(values: dict[str, Value]) -> list[str]:
    """Return a remark for each value whose repeats differ by more than 5 %: the device was not quiet."""
    return [
        f"{name}: repeats differ by {value.spread:.1%}, more than {DISAGREEMENT:.0%}: "
        f"{', '.join(f'{each:.4g}' for each in value.repeats)} {value.unit}"
        for name, value in values.items()
        if value.is_unsteady
    ]


# --- one launch for all kernels of a call ---


def as_cuda_graph(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return a replay of a call: the same kernels on the same addresses; its output is the same tensor each time.

    Args:
        call: without anything that waits for the device; its inputs may be changed in place between replays.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(GRAPH_WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    release(torch.device("cuda"))  # the graph has memory of its own, and cannot reuse that of the warm-up
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


# --- the rate of the device ---


def best_time(step: Step, device: torch.device, seconds: float) -> float:
    """Return the shortest duration of a call in seconds, of as many as fit into the given time, at least one."""
    times: list[float] = []
    while not times or sum(times) + times[-1] < seconds:
        times += step_durations(step, 1, device)
    return min(times)


def matrix_product_rate(device: torch.device, precision: str, seconds: float = 2, side: int | None = None) -> float:
    """Return the multiply-accumulates per second of a large matrix product, the best of several."""
    side = side or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.rand(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    a @ b
    return side**3 / best_time(lambda: a @ b, device, seconds)

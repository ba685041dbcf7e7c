# SPDX-License-Identifier: Apache-2.0
"""Repeats of a measurement in processes of their own.

Two processes differ by more than the steps of one: where memory lies, which kernels were chosen, what else ran. The
error of a speed is therefore that between processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from dcae.benchmark.entries import EfficiencyProtocol
from dcae.benchmark.record import Value
from evaluation.efficiency.denoiser import DenoiserShape, profile_denoiser
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.timing import disagreements, error_of_repeats
from evaluation.efficiency.worker import Worker

LONGEST_REPEAT = 3600  # seconds, with compiling


def profile_in_processes(
    shape: DenoiserShape, protocol: EfficiencyProtocol, device: str, threads: int | None = None
) -> Profile:
    """Measure a diffusion model once in each of ``protocol.repeats`` processes, which share the measuring time.

    Args:
        shape, protocol, device: as of ``profile_denoiser``.
        threads: of torch in each process; default: as many as here.

    Raises:
        BackendError, ValueError: as ``profile_denoiser``.
        ProcessEnded: a process was killed, or took more than an hour.
    """
    share = protocol.model_copy(update={"seconds": protocol.seconds / protocol.repeats, "repeats": 1})
    arguments = shape, share, str(device), threads or torch.get_num_threads()
    fork = device == "cpu" and has_one_thread()
    profiles = []
    for repeat in range(protocol.repeats):
        with Worker(fork) as process:
            profiles.append(process.call(_measure, *arguments, repeat == 0, seconds=LONGEST_REPEAT))
    return combine(profiles)


def has_one_thread() -> bool:
    """Return whether this process has no thread but this one, native ones counted, so that it can fork safely.

    jemalloc's, which pyarrow starts, is not counted: it holds no lock while its process forks (pthread_atfork).
    """
    names = [task.read_text(encoding="utf-8").strip() for task in Path("/proc/self/task").glob("*/comm")]
    return len([name for name in names if name != "jemalloc_bg_thd"]) == 1


def _measure(shape: DenoiserShape, protocol: EfficiencyProtocol, device: str, threads: int, memory: bool) -> Profile:
    torch.set_num_threads(threads)
    return profile_denoiser(shape, protocol, device, memory)


def combine(profiles: Sequence[Profile]) -> Profile:
    """Return the medians over processes, with the error between them.

    A time that one process lacks is missing; what is not timed may be in the first profile alone.
    """
    first = profiles[0]
    excluded = {name: why for each in profiles for name, why in each.excluded.items()}
    values = {}
    for name, value in first.values.items():
        found = [each.values[name] for each in profiles if name in each.values]
        if not value.repeats or len(found) == len(profiles):
            values[name] = _over_processes(found)
    remarks = dict.fromkeys(remark for each in profiles for remark in each.remarks)
    conditions = {**first.conditions, "processes": len(profiles)}
    return Profile(values, excluded, conditions, [*remarks, *disagreements(values)])


def _over_processes(values: Sequence[Value]) -> Value:
    first, found = values[0], [each.value for each in values]
    if len(values) == 1 or len(set(found)) == 1:
        return first
    update = {"value": median(found)}
    if first.repeats:  # timed, not computed from other values
        n = sum(each.n for each in values)
        update |= {"repeats": found, "n": n, "standard_error": error_of_repeats(found)}
    return first.model_copy(update=update)

# SPDX-License-Identifier: Apache-2.0
"""What the rules of the workflow ask for, from the size of each job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcae.benchmark import Benchmark
from workflow.planning.needs import Needs, NotCounted
from workflow.planning.plan import subjects
from workflow.planning.site import Site
from workflow.planning.sizing import Size, parts_of, size

UNKNOWN = Size(gpus=1, accumulation=1, gpu_memory_gib=0, minutes=1440, attempts=1)
"""Of a job with a network that is not counted (``dcae plan BENCHMARK --count``)."""


class Resources:
    """Sizes of a benchmark's jobs at a site."""

    def __init__(self, benchmark: Benchmark, site: Site):
        self.benchmark, self.site, self.needs = benchmark, site, Needs(benchmark, site)

    def size(self, rule: str, subject: Any) -> Size:
        """Return the size of the job of a rule for its subject."""
        try:
            return size(self.needs.of(rule, subject), self.site)
        except NotCounted:
            minutes = min(UNKNOWN.minutes, self.site.longest_minutes or UNKNOWN.minutes)
            return replace(UNKNOWN, minutes=minutes)

    def accumulation(self, rule: str, subject: Any, gpus: int) -> int:
        """Return into how many parts each of so many GPUs divides its share of a batch."""
        try:
            return parts_of(self.needs.of(rule, subject), self.site, gpus)
        except NotCounted:
            return 1

    def retries(self, rule: str) -> int:
        """Return the retries that the longest job of a rule may take."""
        return max((self.size(rule, subject).attempts for subject in subjects(self.benchmark, rule)), default=1) - 1

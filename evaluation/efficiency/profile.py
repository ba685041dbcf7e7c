# SPDX-License-Identifier: Apache-2.0
"""What was measured of one row: values, why others are not there, and under which conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from dcae.benchmark.entries import EfficiencyProtocol
from dcae.benchmark.record import Value
from evaluation.efficiency.backends import UnequalOutputs
from evaluation.efficiency.conditions import read_conditions
from evaluation.efficiency.memory import NotEnoughMemory, or_not_enough_memory
from evaluation.efficiency.timing import disagreements, matrix_product_rate


@dataclass
class Profile:
    """Of one row. ``excluded``: why a value is not there; ``remarks``: what a reader has to know about one that is."""

    values: dict[str, Value] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def attempt(self, names: str | tuple[str, ...], measure: Callable[[], dict[str, Value]], device: torch.device):
        """Take what a measurement gives; if memory ends, or an optimised model is not equal to eager, say why not.

        Args:
            names: of the values that the measurement gives.
            measure: makes them.
            device: whose memory may end.
        """
        try:
            self.values |= or_not_enough_memory(measure, device)
        except (NotEnoughMemory, UnequalOutputs) as error:
            self.excluded |= dict.fromkeys((names,) if isinstance(names, str) else names, str(error))

    def begin(self, device: torch.device, protocol: EfficiencyProtocol) -> None:
        """Note the device's state, and its rate in a large matrix product of the protocol's precision."""
        self.conditions["before"] = read_conditions(device)
        rate = matrix_product_rate(device, protocol.precision, seconds=min(1.0, protocol.seconds))
        self.conditions["matrix_product_gmacs_per_second"] = round(rate / 1e9, 2)

    def utilisation(self, of: str, gmacs_per_image: float) -> None:
        """Add the share of the matrix product's rate that a value in images per second comes to."""
        if of in self.values:
            rate = self.conditions["matrix_product_gmacs_per_second"]
            name = of.removesuffix("_images_per_second")
            self.values[f"{name}_utilisation"] = Value(value=self.values[of].value * gmacs_per_image / rate, n=1)

    def end(self, device: torch.device) -> Profile:
        """Note the device's state, and which values do not agree with their repeats; the profile itself."""
        self.conditions["after"] = read_conditions(device)
        self.remarks += disagreements(self.values)
        return self

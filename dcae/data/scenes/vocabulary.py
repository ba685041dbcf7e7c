# SPDX-License-Identifier: Apache-2.0
"""The colours and words of procedural scenes: random choices among them, and phrases for captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COLOURS = {
    "red": (0.84, 0.14, 0.16),
    "orange": (0.96, 0.55, 0.11),
    "yellow": (0.98, 0.86, 0.22),
    "green": (0.17, 0.60, 0.26),
    "blue": (0.14, 0.37, 0.86),
    "purple": (0.49, 0.20, 0.68),
    "pink": (0.97, 0.60, 0.76),
    "brown": (0.46, 0.29, 0.15),
    "grey": (0.55, 0.55, 0.57),
    "black": (0.07, 0.07, 0.09),
    "white": (0.95, 0.95, 0.94),
}
DARK = ("red", "green", "blue", "purple", "brown", "black")
LIGHT = ("yellow", "pink", "white")
SKIN = ((0.98, 0.84, 0.73), (0.91, 0.72, 0.56), (0.72, 0.50, 0.35), (0.45, 0.30, 0.21))

# fmt: off
WORDS = (
    "AUTUMN", "BRIDGE", "CANDLE", "CASTLE", "COFFEE", "COPPER", "DESERT", "DRAGON", "FABRIC", "FOREST", "GARDEN",
    "GUITAR", "HARBOUR", "ISLAND", "JACKET", "KETTLE", "LADDER", "LANTERN", "LEMON", "MARBLE", "MEADOW", "MIRROR",
    "MUSEUM", "NEEDLE", "OYSTER", "PAPER", "PEPPER", "PIANO", "QUARTZ", "RIVER", "SADDLE", "SILVER", "SUMMER",
    "TEMPLE", "THUNDER", "TUNNEL", "VALLEY", "VELVET", "VIOLIN", "WALNUT", "WINDOW", "WINTER", "YELLOW", "ZEBRA",
)
# fmt: on


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Return one of the options."""
    return options[rng.integers(len(options))]


def pick_different(rng: np.random.Generator, options: Sequence[str], count: int) -> list[str]:
    """Return several different options."""
    return [options[k] for k in rng.permutation(len(options))[:count]]


def shade(rng: np.random.Generator, name: str) -> np.ndarray:
    """Return a random shade of a named colour, RGB in [0, 1]."""
    return np.clip(COLOURS[name] + rng.uniform(-0.04, 0.04, 3), 0, 1)


def mix(first: Sequence[float], second: Sequence[float], share: float) -> np.ndarray:
    """Interpolate between two colours: the first at share 0, the second at share 1."""
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


def a(noun: str) -> str:
    """Return the noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listed(items: Sequence[str]) -> str:
    """Join items as in a sentence: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def counted(count: int, noun: str) -> str:
    """Return the noun with its number."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

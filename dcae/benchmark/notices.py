# SPDX-License-Identifier: Apache-2.0
"""What a user should read before a run: whose weights are gated or restricted, and what is left out."""

from __future__ import annotations

from dcae.benchmark.benchmark import Benchmark


def notices(benchmark: Benchmark) -> list[str]:
    """One line for each autoencoder of a benchmark whose weights need a licence to be accepted, or whose licence
    restricts their use, and for each that is not measured at a resolution since it takes others alone.
    """
    found = []
    for name in benchmark.all_autoencoders:
        entry = benchmark.autoencoder(name)
        if entry.gated:
            found.append(f"{name}: gated, accept the licence on the page of {_place(entry)}, then `hf auth login`")
        if entry.restriction:
            found.append(f"{name}: {entry.restriction}")
        asked = {side for sides in benchmark.content.reconstruction.datasets.values() for side in sides}
        if entry.resolutions and (others := sorted(asked - set(entry.resolutions))):
            listed = ", ".join(map(str, others))
            found.append(
                f"{name}: takes {', '.join(map(str, entry.resolutions))} px alone, not measured at {listed} px"
            )
    return found


def _place(entry) -> str:
    pretrained = getattr(entry, "pretrained", None)
    return pretrained.id if pretrained else entry.source

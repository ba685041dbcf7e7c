# SPDX-License-Identifier: Apache-2.0
"""One string for a whole protocol: two records may stand in one table if their fingerprints are equal."""

from __future__ import annotations

from dcae.benchmark.entries import EfficiencyProtocol, Protocol, digest
from dcae.weights.catalogue import expected_sha256
from evaluation.features.inception import weights_identity


def fingerprint(protocol: Protocol | EfficiencyProtocol) -> str:
    """16 hex digits that change with any field that decides a value, and with the content of any weight file.

    Raises:
        WeightsError: a weight file that the protocol names is missing or is another one.
    """
    if isinstance(protocol, EfficiencyProtocol):
        return digest(protocol)
    detectors = [str(expected_sha256(each.weights)) for each in protocol.detectors]
    return digest(protocol, *map(weights_identity, protocol.networks), *detectors)

# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of protocols, features and weights: equal strings mean that values were computed in the same way.

No torch here: the command line asks without computing anything.
"""

from __future__ import annotations

from dcae.benchmark.entries import EfficiencyProtocol, NetworkWeights, Protocol, digest
from dcae.files import sha256
from dcae.weights.catalogue import expected_sha256, find


def fingerprint(protocol: Protocol | EfficiencyProtocol) -> str:
    """Return 16 hex digits that change with any field that decides a value, and with the content of any weight file.

    Records whose fingerprints are equal may be compared in one table. Weights that not every record needs, those of
    the CLIP score and of detectors, count by their sha256 in the catalogue: their files may be missing.

    Raises:
        WeightsError: another weight file that the protocol names is missing or has the wrong content.
    """
    if isinstance(protocol, EfficiencyProtocol):
        return digest(protocol)
    always = filter(None, [protocol.inception, protocol.lpips, protocol.dinov2, protocol.cmmd])
    sometimes = [each for each in (protocol.clip, *protocol.detectors) if each and not each.random]
    expected = [str(expected_sha256(each.weights)) for each in sometimes]
    return digest(protocol, *map(weights_identity, always), *expected)


def features_fingerprint(weights: NetworkWeights, resize: str, crop: str) -> str:
    """Return 16 hex digits that change with anything that decides the features of real images."""
    return digest(weights.network, weights_identity(weights), resize, crop)


def weights_identity(weights: NetworkWeights) -> str:
    """Return ``sha256:...`` of a feature network's weight file, or ``random:<seed>``.

    Raises:
        WeightsError: the file is missing or has the wrong content.
    """
    return f"random:{weights.seed}" if weights.random else f"sha256:{sha256(find(weights.weights))}"

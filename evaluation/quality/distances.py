# SPDX-License-Identifier: Apache-2.0
"""From kept features to values: Fréchet distances, FID∞, KID, precision and recall, FD-DINOv2 and CMMD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from evaluation.features.reference import Reference
from evaluation.metrics.extrapolation import FEWEST, frechet_infinity
from evaluation.metrics.frechet import Moments
from evaluation.metrics.jackknife import Jackknife, jackknife_frechet, mean_and_standard_error
from evaluation.metrics.kid_cmmd import clip_mmd, kernel_inception_distance
from evaluation.metrics.precision_recall import NEIGHBOURS, precision_recall

# Below so many images a value could not be computed, or would say nothing.
FEWEST_IMAGES = {"fid": 3, "fid_infinity": FEWEST, "kid": 3, "precision": NEIGHBOURS + 1, "recall": NEIGHBOURS + 1,
                 "fd_dinov2": 3, "cmmd": 3}  # fmt: skip
ROLES = {"fd_dinov2": "dinov2", "cmmd": "cmmd"}  # of all others: inception


@dataclass(frozen=True)
class Quality:
    """Values by name, and what could not be had, with the reason."""

    values: dict[str, Value] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    def renamed(self, names: Callable[[str], str]) -> Quality:
        """The same under other names."""
        values = {names(name): value for name, value in self.values.items()}
        return Quality(values, {names(name): reason for name, reason in self.excluded.items()})


def _of_jackknife(found: Jackknife, n: int) -> Value:
    return Value(
        value=found.estimate, n=n, standard_error=found.standard_error, leave_group_out=[*map(float, found.left_out)]
    )


def _frechet(features: Tensor, reference: Reference, paired: bool) -> Value:
    return _of_jackknife(jackknife_frechet(features, reference.whole, paired), len(features))


def _infinity(features: Tensor, reference: Reference, paired: bool) -> Value:
    value, error = frechet_infinity(features, reference.whole, paired)
    return Value(value=value, n=len(features), standard_error=error)


def _kid(features: Tensor, reference: Reference, paired: bool) -> Value:
    return _of_jackknife(kernel_inception_distance(features, reference.features, paired), len(features))


def _cmmd(features: Tensor, reference: Reference, paired: bool) -> Value:
    return _of_jackknife(clip_mmd(features, reference.features), len(features))


def _share(inside: Tensor) -> Value:
    mean, error = mean_and_standard_error(inside.double())
    return Value(value=mean, n=len(inside), standard_error=error)


MEASURES: dict[str, Callable[[Tensor, Reference, bool], Value]] = {
    "fid": _frechet,
    "kid": _kid,
    "precision": lambda features, reference, paired: _share(precision_recall(features, reference.features)[0]),
    "recall": lambda features, reference, paired: _share(precision_recall(features, reference.features)[1]),
    "fid_infinity": _infinity,
    "fd_dinov2": _frechet,
    "cmmd": _cmmd,
}


def distances(
    features: dict[str, Tensor],
    reference: dict[str, Reference],
    protocol: Protocol,
    paired: bool,
    device: str | torch.device = "cpu",
) -> Quality:
    """Every distance between what was made and the reference that a protocol asks for.

    Args:
        features: by role, [N, d], of the images that are evaluated.
        reference: of real images, by role.
        protocol: says which networks have random weights.
        paired: image i of both belongs together; only where the reference's features are all kept.
        device: where the distances are computed.

    Returns:
        ``fid``, ``kid``, ``precision``, ``recall``, ``fid_infinity``, and ``fd_dinov2`` and ``cmmd`` if asked for.
        Errors are of jackknives, which leave the reference whole unless the sets are paired; of precision and recall,
        of the share alone; of ``fid_infinity``, of the line's fit.
    """
    values: dict[str, Value] = {}
    excluded: dict[str, str] = {}
    for name, measure in MEASURES.items():
        role = ROLES.get(name, "inception")
        if role not in features:
            continue
        made, real = features[role].to(device), _on(reference[role], device)
        n, needed = min(len(made), len(real.features)), FEWEST_IMAGES[name]
        if n < needed:
            excluded[name] = f"needs at least {needed} images, there are {n}"
            continue
        random = getattr(protocol, role).random
        value = measure(made, real, paired and real.moments is None)
        values[name] = value.model_copy(update={"random_features": random})
    return Quality(values, excluded)


def _on(reference: Reference, device: str | torch.device) -> Reference:
    moments = reference.moments
    if moments is not None:
        moments = Moments(moments.count, moments.mean.to(device), moments.scatter.to(device))
    return replace(reference, features=reference.features.to(device), moments=moments)

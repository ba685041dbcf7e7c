# SPDX-License-Identifier: Apache-2.0
"""``dcae verify``: published values of released weights, measured again on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Config
from dcae.benchmark.golden import GOLDEN, GoldenCheck, read_golden
from dcae.benchmark.record import write_atomically
from dcae.weights.hub import hub_commit, released_file, weights_sha256
from workflow.commands import options
from workflow.provenance import sources_digest


class VerificationError(RuntimeError):
    """Something that a check needs is missing, or a value is not the published one."""


def verify(
    golden: Annotated[Path, typer.Option(help="YAML of published values, beside the entries that it names")] = GOLDEN,
    folder: Annotated[Path, typer.Option(help="for features and what is done so far")] = Path("results/verify"),
) -> None:
    """Measure released weights on ImageNet and hold the values against the published ones.

    Says what is missing and where to put it, if anything is. A run that was killed goes on when started again.
    """
    from evaluation.verification import missing_parts

    checks = read_golden(golden)
    config = Config(golden.parent)
    missing = {reason: None for check in checks.values() for reason in missing_parts(check, config)}
    if missing:
        listed = "\n".join(f"- {reason}" for reason in missing)
        raise VerificationError(f"nothing was verified; this machine lacks\n{listed}")
    failed = [name for name, check in checks.items() if not _verify(name, check, config, folder / name)]
    if failed:
        raise VerificationError(
            f"{', '.join(failed)}: values differ from the published ones by more than the tolerance; "
            "do not trust numbers of this machine before it is known why"
        )
    print("verified: the published values are reproduced")


def _verify(name: str, check: GoldenCheck, config: Config, folder: Path) -> bool:
    """Print each value beside the published one; whether all of them hold."""
    from dcae.autoencoders.loading import load
    from evaluation.features.reference import write_reference
    from evaluation.quality.reconstruction import evaluate_reconstruction
    from evaluation.verification import check_dataset, compare_with_golden

    device = options.device()
    entry, protocol = config.entry("autoencoders", name), config.entry("protocols", check.protocol)
    autoencoder = load(entry, config=config, device=device)  # before hours are spent on the reference
    dataset = check_dataset(check, config)
    code = sources_digest()  # results of other code would verify nothing
    reference, made_by = folder / "reference.safetensors", folder / "code"
    if not (reference.is_file() and made_by.is_file() and made_by.read_text() == code):
        write_reference(dataset, check.images, protocol, reference, workers=options.readers(device), device=device)
        write_atomically(made_by, code)
    released, weights = released_file(autoencoder), weights_sha256(autoencoder) or "none"
    if released:
        commit = hub_commit(released, weights) or "not known"
        print(f"{name}: {released}, sha256 {weights}, commit {commit}", flush=True)
    result = evaluate_reconstruction(
        autoencoder,
        dataset,
        protocol.model_copy(update={"reconstruction_images": check.images}),
        reference,
        workers=options.readers(device),
        device=device,
        padding=entry.padding,
        state=folder / "images",
        identity={
            "autoencoder": entry.decisive(),
            "weights": weights,
            "code": code,
        },
    )
    print(f"{name} on {check.dataset} at {check.resolution} px, protocol {check.protocol}; published: {check.source}")
    found = compare_with_golden(result.values, check)
    for each in found:
        print(each)
    return all(each.holds for each in found)

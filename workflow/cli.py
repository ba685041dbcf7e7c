# SPDX-License-Identifier: Apache-2.0
"""The ``dcae`` command line: each rule of the workflow is one of these sub-commands, and each runs by hand as well."""

from __future__ import annotations

import contextlib
import sys

import typer

from workflow import OWN_PACKAGES
from workflow.commands import (
    comparing,
    data,
    describing,
    exporting,
    measuring,
    pinning,
    presenting,
    profiling,
    training,
    verifying,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
train = typer.Typer(no_args_is_help=True, help="Train an autoencoder's phase or a diffusion model.")
train.command("autoencoder")(training.train_autoencoder)
train.command("denoiser")(training.train_denoiser)
app.add_typer(train, name="train")
datasets = typer.Typer(no_args_is_help=True, help="Look at a data set.")
datasets.command("check")(data.check)
app.add_typer(datasets, name="data")
app.command()(describing.describe)
app.command()(comparing.compare)
app.command()(pinning.pin)
app.command()(training.encode)
app.command()(training.captions)
app.command()(measuring.reference)
app.command()(measuring.evaluate)
app.command()(measuring.generate)
app.command()(profiling.profile)
app.command()(presenting.tables)
app.command()(presenting.figures)
app.command()(exporting.export)
app.command()(verifying.verify)

EXIT_ERROR = 1


def main() -> None:
    """Run a sub-command.

    Errors of the project's own classes explain themselves and are told without a traceback. A training that stopped
    before its end, and goes on when the same command is given again, exits with ``EXIT_UNFINISHED``.
    """
    try:
        app(prog_name="dcae")
    except Exception as error:
        if type(error).__module__.split(".")[0] not in OWN_PACKAGES:
            raise
        from dcae.training.stopping import EXIT_UNFINISHED, Unfinished

        if isinstance(error, Unfinished):
            with contextlib.suppress(OSError):  # whoever read the output may have been stopped first
                print(error, flush=True)
            sys.exit(EXIT_UNFINISHED)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()

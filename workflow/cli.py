# SPDX-License-Identifier: Apache-2.0
"""The ``dcae`` command line: each rule of the workflow is one of these sub-commands, and each runs by hand as well."""

from __future__ import annotations

import sys

import typer

from dcae.benchmark import ConfigError
from workflow.commands import describing, measuring, presenting, training

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
train = typer.Typer(no_args_is_help=True, help="Train an autoencoder's phase or a diffusion model.")
train.command("autoencoder")(training.train_autoencoder)
train.command("denoiser")(training.train_denoiser)
app.add_typer(train, name="train")
app.command()(describing.describe)
app.command()(training.encode)
app.command()(measuring.reference)
app.command()(measuring.evaluate)
app.command()(measuring.generate)
app.command()(measuring.profile)
app.command()(presenting.tables)
app.command()(presenting.figures)

EXIT_WRONG_INPUT = 2


def main() -> None:
    """Run a sub-command; a mistake in the input is told in a few lines, without a traceback."""
    try:
        app()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)


if __name__ == "__main__":
    main()

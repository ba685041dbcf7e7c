# SPDX-License-Identifier: Apache-2.0
"""The ``dcae`` command line: each rule of the workflow is one of these sub-commands, and each runs by hand as well."""

from __future__ import annotations

import contextlib
import sys

import typer

from dcae import OWN_PACKAGES
from workflow.commands.bundle import bundle
from workflow.commands.captions import captions
from workflow.commands.claims import claims
from workflow.commands.compare import compare
from workflow.commands.data_check import check
from workflow.commands.describe import describe
from workflow.commands.diff import diff
from workflow.commands.encode import encode
from workflow.commands.evaluate import evaluate
from workflow.commands.export import export
from workflow.commands.figures import figures
from workflow.commands.generate import generate
from workflow.commands.new import new
from workflow.commands.page import page
from workflow.commands.pin import pin
from workflow.commands.plan import plan
from workflow.commands.profile import profile
from workflow.commands.profile_suite import profile_suite
from workflow.commands.reference import reference
from workflow.commands.run import run
from workflow.commands.tables import tables
from workflow.commands.train_autoencoder import train_autoencoder
from workflow.commands.train_denoiser import train_denoiser
from workflow.commands.verify import verify
from workflow.commands.verify_cache import verify_cache

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
train = typer.Typer(no_args_is_help=True, help="Train one phase of an autoencoder, or a diffusion model.")
train.command("autoencoder")(train_autoencoder)
train.command("denoiser")(train_denoiser)
app.add_typer(train, name="train")
datasets = typer.Typer(no_args_is_help=True, help="Inspect datasets.")
datasets.command("check")(check)
datasets.command("verify-cache")(verify_cache)
app.add_typer(datasets, name="data")
for command in (
    describe, new, run, plan, compare, pin, encode, captions, reference, evaluate, generate, profile, profile_suite,
    tables, claims, figures, page, diff, bundle, export, verify,
):  # fmt: skip
    app.command()(command)

EXIT_ERROR = 1


def main() -> None:
    """Run a sub-command.

    Errors of the project's own classes are printed without a traceback. A training that stopped before its end, and
    that the same command resumes, exits with ``EXIT_UNFINISHED``.
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

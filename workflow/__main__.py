# SPDX-License-Identifier: Apache-2.0
"""``dcae``: the command line, in this process or, for jobs of a run on this machine, in a fork of its server."""

from __future__ import annotations

import sys

from workflow import gpu_pool
from workflow.fork_server import end_as, hand_over


def main() -> None:
    """Run a sub-command."""
    gpu_pool.take()
    status = hand_over(sys.argv[1:])
    if status is not None:
        end_as(status)
    sys.stdout.reconfigure(errors="backslashreplace")  # for locales that lack a sign of the paper, such as ×
    from workflow import cli  # not before: it takes longer than to hand over

    cli.main()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""``dcae diff``: two runs, cell by cell."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dcae.benchmark import Value
    from evaluation.difference import CellDifference, Change, ValueChange

LONGEST = 60  # characters of a setting that are shown


def diff(
    a: Annotated[Path, typer.Argument(help="folder of a run, for example results/demo, or a bundle")],
    b: Annotated[Path, typer.Argument(help="folder of another run, or a bundle")],
    values_only: Annotated[
        bool, typer.Option("--values", help="values alone, not settings, code, data and device")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print what differs between two runs: settings, code, data, device and values; exit with 1 if anything does.

    Values of the same images are compared in pairs: B minus A, with its 95 % interval.
    """
    from evaluation.difference import differences
    from workflow.bundle.opening import folder_of_run

    with folder_of_run(a) as folder_a, folder_of_run(b) as folder_b:
        found = [each for each in differences(folder_a, folder_b) if not each.equal]
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1, default=str))
    else:
        print(f"A: {a}\nB: {b}")
        for each in found:
            print(f"\n{_text(each, values_only)}")
        print(f"\n{len(found)} cells differ" if found else "no cell differs")
    if found:
        raise typer.Exit(1)


def _text(cell: CellDifference, values_only: bool) -> str:
    title = f"{cell.kind} {cell.cell}"
    if cell.only_in:
        return f"{title}: only in {cell.only_in}"
    lines = [title]
    lines += [] if values_only else [_change(each) for each in cell.changes]
    lines += [_value(each) for each in cell.values]
    return "\n".join(lines)


def _change(change: Change) -> str:
    return f"  {change.topic}: {change.name}: {_short(change.a)} → {_short(change.b)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _value(change: ValueChange) -> str:
    text = f"  {change.name}: {_number(change.a)} → {_number(change.b)}"
    if change.comparison:
        found = change.comparison
        text += f" ({found.difference:+.4g}, {found.low:+.4g} to {found.high:+.4g}, {found.verdict})"
    elif change.a and change.b:
        text += f" ({change.b.value - change.a.value:+.4g}, not paired)"
    return text


def _number(value: Value | None) -> str:
    if value is None:
        return "none"
    error = "" if value.standard_error is None else f" ± {value.standard_error:.2g}"
    return f"{value.value:.6g}{error}"

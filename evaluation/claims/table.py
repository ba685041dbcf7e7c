# SPDX-License-Identifier: Apache-2.0
"""The table of the paper's claims, and the same as lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from evaluation.claims.verdicts import TOKENS, VERDICTS, Reading, Test, TestedClaim, published_ratio
from evaluation.metrics.registry import CLIP_SCORE, FID, IMAGE_METRICS
from evaluation.published import PublishedValue
from evaluation.tables.formats import Column, Number, Section, Source, Table, format_number
from evaluation.tables.rows import TableCell
from evaluation.tables.seeds import IMAGES_ALONE

TITLES = {
    **{metric.name: metric.heading for metric in (FID.of_reconstructions(), *IMAGE_METRICS)},
    **{f"{metric.name}_{how}_guidance": f"{metric.title} {short} CFG"
       for metric in (FID, CLIP_SCORE) for how, short in (("with", "w/"), ("without", "w/o"))},
    "fid": "FID",
    "clip_score": CLIP_SCORE.title,
    "training_images_per_second": "training images/s",
    "inference_images_per_second": "inference images/s",
    "encode_images_per_second": "encoded images/s",
    "full_to_middle": "memory, all layers / middle",
    "full_training_peak_gb": "GB",
    "middle_training_peak_gb": "GB",
    "encoder_tensors_changed": "encoder tensors changed",
}  # fmt: skip
DECIMALS = 2
NO_ROWS = "no such rows in this benchmark"
NOTHING = Number(None, missing="–")


def title_of(metric: str) -> str:
    """Return a metric's name for readers."""
    return TITLES.get(metric, metric.replace("_", " "))


def counts(claims: Iterable[TestedClaim]) -> str:
    """Return how many claims have each verdict."""
    found = Counter(each.verdict for each in claims)
    return f"{', '.join(f'{found[verdict]} {verdict}' for verdict in VERDICTS)}, of {found.total()} claims"


# --- texts ---


def _name(cell: TableCell | None) -> str:
    if cell is None:
        return "–"
    resolution = "" if cell.dataset else f" at {cell.resolution} px"
    return f"{cell.models}{resolution}"


def _place(test: Test) -> str:
    sides = sorted({cell.resolution for cell in (test.a, test.b) if cell}, reverse=True)
    if not test.a.dataset:
        return f"{test.a.resolution} px"
    if test.b and len(sides) > 1:
        return f"{test.a.dataset}, {test.a.resolution} against {test.b.resolution} px"
    return f"{test.a.dataset} {test.a.resolution} px"


def _metric(test: Test) -> str:
    title = title_of(test.metric) + (f" by {test.readings[0].protocol}" if _further(test) else "")
    return title + (" [random features]" if test.random_features else "")


def _further(test: Test) -> bool:
    return bool(test.readings and test.readings[0].protocol)


def _effect(test: Test) -> Number:
    found = test.effect
    if found is None:
        return Number(None, missing=test.why)
    signed = test.size.scale == "difference"
    return Number(found.estimate, DECIMALS, signed=signed, n=found.n, source=_source(test, test.readings[0]))


def _source(test: Test, reading: Reading) -> Source | None:
    return Source(reading.record, test.metric, reading.protocol) if reading.record else None


def _bound(size: float, test: Test) -> str:
    return format_number(Number(size, DECIMALS, signed=test.size.scale == "difference"))


def _interval(test: Test) -> str:
    found = test.effect
    return f"{_bound(found.low, test)} to {_bound(found.high, test)}" if found else "–"


def _covers(test: Test) -> str:
    """The sources of error that an interval covers."""
    if test.effect is None:
        return "–"
    if test.effect.standard_error == 0:
        return "exact"
    record = test.readings[0].record
    errors = "repeats" if record and record.kind == "efficiency" else "images"
    if test.effect.covers_seeds:
        return f"{errors} and seeds"
    return errors + (" alone" if errors == "images" else "")


def _seeds(test: Test) -> str:
    if test.effect is None:
        return "–"
    return ", ".join(map(str, dict.fromkeys(test.effect.seeds) if test.b is None else test.effect.seeds))


def _printed(value: PublishedValue | None, column: str | None) -> str:
    if value is None:
        return "–"
    return str(value.tokens) if column == TOKENS else f"{value.value:.{value.decimals}f}"


def paper_text(test: Test) -> str:
    """Return the paper's numbers of both sides, their ratio, and how far they can be trusted."""
    a, b = test.published
    if a is None and b is None:
        return "–"
    known = a or b
    column = TOKENS if test.metric == TOKENS else known.column
    texts = [_printed(a, column), *([_printed(b, column)] if b or test.b else [])]
    ratio = a.tokens / b.tokens if column == TOKENS else published_ratio((a, b))
    text = f"{'tokens' if column == TOKENS else title_of(column)} {' against '.join(texts)}"
    if ratio is not None:
        text += f" ({ratio:.3g}×)"
    if any(value and value.second_hand for value in (a, b)):
        text += ", second-hand"
    return text


def _verdict(test: Test) -> str:
    return test.verdict + (f": {test.why}" if test.why and test.effect else "")


# --- the table ---


COLUMNS = [
    Column("Claim", "Claim", label=True, width=44, in_csv=False),
    Column("Id", "Id", printed=False),
    Column("Verdict on the claim", "Verdict on the claim", printed=False),
    Column("Statement", "Statement", printed=False),
    Column("Place in the paper", "Place in the paper", printed=False),
    Column("A", "A", label=True, width=36),
    Column("B", "B", label=True, width=36),
    Column("Data", "Data", label=True),
    Column("Metric", "Metric", label=True),
    Column("A, value", "A, value", measured=True, printed=False),
    Column("B, value", "B, value", measured=True, printed=False),
    Column("A against B", "A against B"),
    Column("95 % interval", "95 % interval", in_csv=False),
    Column("Low", "Low", printed=False),
    Column("High", "High", printed=False),
    Column("Reproduced if", "Reproduced if", label=True),
    Column("Verdict", "verdict", label=True, width=30),
    Column("N", "N"),
    Column("Seeds", "seeds (A, B)"),
    Column("Interval covers", "interval covers", label=True),
    Column("Paper", "Paper", label=True, width=36),
]


def _value(test: Test, side: int) -> Number:
    """Return the measured value of A (0) or B (1)."""
    if side >= len(test.readings):
        return NOTHING
    reading = test.readings[side]
    value, source = reading.value, _source(test, reading)
    return Number(value.value, DECIMALS, standard_error=value.standard_error, n=value.n, source=source)


def _row(tested: TestedClaim, test: Test | None, first: bool) -> list[str | Number]:
    claim = tested.claim
    head = f"{tested.verdict.upper()}: {claim.claim} ({claim.place})" if first else ""
    about = [head, claim.id, tested.verdict, claim.claim, claim.place]
    if test is None:
        metric, size = next(iter(claim.metrics.items()))
        return [*about, "–", "–", NO_ROWS, title_of(metric), *[NOTHING] * 3, "–", NOTHING, NOTHING, str(size),
                "not tested", "–", "–", "–", "–"]  # fmt: skip
    found = test.effect
    bounds = [Number(found.low, DECIMALS), Number(found.high, DECIMALS)] if found else [NOTHING, NOTHING]
    return [
        *about, _name(test.a), _name(test.b), _place(test), _metric(test), _value(test, 0), _value(test, 1),
        _effect(test), _interval(test), *bounds, str(test.size), _verdict(test), f"{found.n:,}" if found else "–",
        _seeds(test), _covers(test), paper_text(test),
    ]  # fmt: skip


def build_claims(claims: Sequence[TestedClaim], benchmark: str = "") -> Table:
    """Build the table of claims: a section for each topic, and a row for each comparison."""
    sections: dict[str, list] = {}
    for tested in claims:
        for index, test in enumerate(tested.tests or [None]):
            sections.setdefault(tested.claim.topic.capitalize(), []).append(_row(tested, test, index == 0))
    tests = [test for tested in claims for test in tested.tests if test.effect]
    above = (
        f"The paper's claims{f', benchmark {benchmark}' if benchmark else ''}: {counts(claims)}. A claim is held if "
        "the 95 % interval of A against B (a ratio, a difference, or A's value alone) lies on the side that counts "
        "as reproduced, not held if wholly on the other, else undecided; with several comparisons all must hold. "
        'Column "Paper": its own numbers, of its own data and sizes.'
    )
    notes = []
    if any(test.effect.seeds == (1, 1) and _covers(test) == "images alone" for test in tests):
        notes.append(f"Seeds 1, 1: {IMAGES_ALONE}. Another pair of trainings may differ by more.")
    if any(test.random_features for test in tests):
        notes.append("[random features]: from networks with seeded random weights; they order rows, and mean little.")
    if any(value and value.second_hand for test in tests for value in test.published):
        notes.append("Second-hand: known from public notes on the ICLR version, not from the paper itself.")
    return Table("Claims", above, COLUMNS, [Section(name, rows) for name, rows in sections.items()], notes)


def as_text(claims: Sequence[TestedClaim]) -> str:
    """Return the verdicts as lines for a terminal."""
    lines = []
    for tested in claims:
        lines.append(f"{tested.verdict:10}  {tested.claim.claim} ({tested.claim.place})")
        if not tested.tests:
            lines.append(f"{'':10}    {NO_ROWS}")
        for test in tested.tests:
            against = f" against {_name(test.b)}" if test.b else ""
            lines.append(f"{'':10}    {_name(test.a)}{against}, {_place(test)}")
            if test.effect is None:
                lines.append(f"{'':10}      {test.verdict}: {test.why}; paper: {paper_text(test)}")
                continue
            what = f"{_metric(test)}: {test.size.scale} {format_number(_effect(test))} [{_interval(test)}]"
            lines.append(
                f"{'':10}      {what}, reproduced if {test.size.relation} {test.size.threshold:g}: {_verdict(test)}"
            )
            counted = f"N {test.effect.n:,}, seeds {_seeds(test)}, interval over {_covers(test)}"
            lines.append(f"{'':10}      {counted}; paper: {paper_text(test)}")
    return "\n".join([*lines, counts(claims)])

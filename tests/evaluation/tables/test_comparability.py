# SPDX-License-Identifier: Apache-2.0
"""Values that were not measured alike: marked, explained, and never compared."""

import pytest

from dcae.benchmark.record import Measured, Value
from evaluation.tables.comparability import alike, marks_of_records
from evaluation.tables.formats import Number, to_csv, to_markdown
from evaluation.tables.metrics import RECONSTRUCTION
from evaluation.tables.paired import build_paired, compare_results
from evaluation.tables.paper import build_table
from evaluation.tables.protocols import build_protocols, build_subsets
from evaluation.tables.rows import Result
from tests.evaluation import synthetic

RFID = next(metric for metric in RECONSTRUCTION if metric.name == "rfid")


def changed(result: Result, name: str, **fields) -> Result:
    return synthetic.changed(result, **fields) if result.cell.autoencoder == name else result


def of_fewer_images(record: Result, n: int = 20) -> Result:
    values = {key: value.model_copy(update={"n": n}) for key, value in record.values.items()}
    return synthetic.changed(record, values=values)


@pytest.fixture
def records() -> list[Result]:
    """Reconstructions of one dataset at one resolution, f64, all of the same images."""
    found = [each for each in synthetic.demo_records() if each.kind == "reconstruction"]
    here = [each for each in found if (each.cell.dataset, each.cell.spatial_compression) == ("photographs", 64)]
    return [synthetic.changed(each, dataset_fingerprint="photographs-1") for each in here]


def numbers(table, column: str) -> dict[str, Number]:
    titles = [each.title for each in table.columns]
    rows = [row for section in table.sections for row in section.rows]
    return {row[titles.index("Autoencoder")].split(" ")[0]: row[titles.index(column)] for row in rows}


def test_values_of_fewer_images_are_marked_explained_and_never_bold(records):
    best = "dc-ae-f64-demo"
    column = "rFID ↓ [random features]"
    assert numbers(build_table(2, records), column)[best].bold
    mixed = [of_fewer_images(each) if each.cell.autoencoder == best else each for each in records]
    table = build_table(2, mixed)
    assert not numbers(table, column)[best].bold
    assert {name for name, number in numbers(table, column).items() if number.mark} == {best}
    note = (
        "a: other images of photographs at 128 px than the unmarked values, not comparable: of 20 images instead of 64."
    )
    assert note in table.notes


def test_other_images_of_the_same_number_are_marked_and_never_paired(records):
    name = "dc-ae-f64-demo"
    mixed = [changed(each, name, dataset_fingerprint="photographs-2") for each in records]
    marks = marks_of_records(each.record for each in mixed)
    assert [marks.of_record(each.record) for each in mixed if each.cell.autoencoder == name] == ["a"]
    assert "the dataset's fingerprint is photographs-2 instead of photographs-1" in marks.notes[0]
    one, other = mixed[0], next(each for each in mixed if each.cell.autoencoder == name)
    left_out = {"leave_group_out": [1.0 + 0.01 * group for group in range(64)]}
    one, other = (
        synthetic.changed(each, values={"rfid": each.values["rfid"].model_copy(update=left_out)})
        for each in (one, other)
    )
    assert not alike(one.record, other.record) and compare_results(one, other, RFID, {}) is None
    same = synthetic.changed(other, dataset_fingerprint="photographs-1")
    assert compare_results(one, same, RFID, {}) is not None
    assert f"{name} [a]" in to_csv(build_paired(mixed, {}))


def test_a_protocol_and_images_that_both_differ_have_two_letters(records):
    name = "dc-ae-f64-demo"
    mixed = [changed(of_fewer_images(each), name, protocol_fingerprint="other") if each.cell.autoencoder == name
             else each for each in records]  # fmt: skip
    marks = marks_of_records(each.record for each in mixed)
    assert [marks.of_record(each.record) for each in mixed if each.cell.autoencoder == name] == ["a,b"]
    assert [note[:2] for note in marks.notes] == ["a:", "b:"]


def test_places_are_not_held_against_each_other():
    records = [each for each in synthetic.demo_records() if each.kind == "reconstruction"]
    by_place = [
        synthetic.changed(each, dataset_fingerprint=f"{each.cell.dataset} {each.cell.resolution}") for each in records
    ]
    by_place = [of_fewer_images(each) if each.cell.dataset == "photographs" else each for each in by_place]
    assert marks_of_records(each.record for each in by_place).notes == []


def test_each_protocol_of_a_pass_has_its_own_marks(records):
    name = "dc-ae-f64-demo"
    values = {"rfid": Value(value=1.0, n=64)}
    ldm = Measured(protocol={"name": "ldm"}, protocol_fingerprint="b", values=values)
    other = ldm.model_copy(update={"protocol_fingerprint": "c"})
    main = {**records[0].record.protocol, "name": "dc-ae"}
    mixed = [synthetic.changed(each, protocol=main, further={"ldm": ldm}) for each in records]
    mixed = [changed(each, name, further={"ldm": other}) for each in mixed]
    table = build_protocols(mixed)
    assert to_markdown(table).count("<sup>a</sup>") == 1
    assert any(note.startswith("a: another ldm protocol") for note in table.notes)


def test_subsets_of_another_protocol_of_the_name_are_marked(records):
    subsets = {"text": {"detector": "any"}}
    protocol = {"name": "dc-ae", "subsets": subsets}
    mixed = [synthetic.changed(each, protocol=protocol) for each in records]
    assert not any("<sup>" in line for line in to_markdown(build_subsets(mixed)).splitlines())
    mixed = [changed(each, "dc-ae-f64-demo", protocol_fingerprint="other") for each in mixed]
    text = to_markdown(build_subsets(mixed))
    assert "<sup>a</sup>" in text and "another dc-ae protocol" in text

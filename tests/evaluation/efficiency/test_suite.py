# SPDX-License-Identifier: Apache-2.0
"""The suites that stand in config: every row of the paper, with a batch size and in the time that was promised."""

import pytest

from dcae.benchmark import Benchmark, Config
from evaluation.efficiency.suite import described, read_cell, suite_rows
from evaluation.published import read_published
from evaluation.tables.rows import TableCell
from tests.evaluation import synthetic

CONFIG = Config()
PUBLISHED = read_published()
PAPER = CONFIG.entry("protocols", "paper")


def rows(suite: str, protocol: str):
    return suite_rows(CONFIG.entry("suites", suite), CONFIG.entry("protocols", protocol), CONFIG, PUBLISHED)


def test_the_suite_has_every_row_of_tables_3_4_and_5_once():
    found = rows("paper", "paper")
    by_table = [sum(row.cell.tables == (table,) for row in found) for table in (3, 4, 5)]
    assert by_table == [11, 6, 2]  # without the rows of Table 3 that were trained longer
    assert len({row.name for row in found}) == 19


@pytest.mark.parametrize("row", rows("paper", "paper"), ids=lambda row: row.name)
def test_tokens_are_those_of_the_paper(row):
    [published] = [
        value
        for value in PUBLISHED.rows(row.cell.tables[0])
        if value.dataset == row.cell.dataset
        and value.diffusion == row.cell.diffusion_paper_name
        and value.autoencoder == row.cell.autoencoder_paper_name
        and value.patch_size == row.cell.patch_size
    ]
    assert row.cell.tokens == published.tokens


def batch_sizes(cell: TableCell) -> tuple[int, int]:
    side = int(cell.tokens**0.5)
    return tuple(PAPER.batch_size(work, cell.diffusion_paper_name, side) for work in ("training", "inference"))


def test_the_suite_takes_less_than_20_minutes_at_the_papers_speed():
    """At the paper's images per second on H100; for compiling, building and waiting 30 seconds a row."""
    total = 0.0
    for row in rows("paper", "paper"):
        cell = row.cell
        place = {"dataset": cell.dataset, "resolution": cell.resolution, "patch_size": cell.patch_size}
        names = {"autoencoder": cell.autoencoder_paper_name, "diffusion": cell.diffusion_paper_name}
        training, inference = (
            PUBLISHED.find(cell.tables[0], f"{work}_images_per_second", **place, **names).value
            for work in ("training", "inference")
        )
        sizes = batch_sizes(cell)
        for step in (sizes[0] / training, sizes[1] / inference, 0.04):  # no latency is above 40 ms
            warm_up = max(2 * step, PAPER.warmup_seconds)
            total += warm_up + PAPER.repeats * step * max(1, -(-PAPER.seconds / PAPER.repeats // step))
        total += 2 * PAPER.memory_batch_size / training + 30
    assert total < 20 * 60


@pytest.mark.parametrize("name", ["paper", "released-diffusion"])
def test_benchmarks_at_full_size_are_measured_by_the_papers_protocol(name):
    """Which loads only if there is a batch size for every cell."""
    benchmark = Benchmark.load(CONFIG.folders[0] / f"{name}.yaml")
    assert benchmark.protocol("efficiency") == PAPER
    assert benchmark.cells.generation


@pytest.mark.parametrize("protocol", ["modern", "end-to-end"])
def test_other_protocols_measure_the_same_rows(protocol):
    assert [row.name for row in rows("paper", protocol)] == [row.name for row in rows("paper", "paper")]


def test_autoencoders_are_measured_at_256_to_2048_px_and_phases_at_1024():
    names = [row.name for row in rows("autoencoders", "autoencoders")]
    assert {f"autoencoder-{side}px-dc-ae-f32c32" for side in (256, 512, 1024, 2048)} < set(names)
    assert names[-1] == "phases-1024px-dc-ae-f64c128"


@pytest.mark.parametrize(("suite", "protocol"), [("paper", "paper"), ("autoencoders", "autoencoders")])
def test_a_record_holds_the_whole_cell(suite, protocol):
    for row in rows(suite, protocol):
        record = synthetic.result("efficiency", vars(row.cell), {}).record
        assert read_cell(record.model_copy(update={"cell": described(row.cell)})) == row.cell

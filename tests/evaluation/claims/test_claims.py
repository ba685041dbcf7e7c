# SPDX-License-Identifier: Apache-2.0
"""The paper's claims: which rows they compare, verdicts by hand, and the numbers that stand beside them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dcae.benchmark import Benchmark, Value
from dcae.benchmark.config import ConfigError
from dcae.benchmark.record import Measured
from evaluation.claims.claims_file import Claim, Size, read_claims
from evaluation.claims.table import as_text, build_claims, counts, paper_text
from evaluation.claims.verdicts import judge_claims
from evaluation.published import read_published
from evaluation.tables.cells import planned_cells
from evaluation.tables.formats import FORMATS, to_csv
from tests.evaluation import synthetic

PUBLISHED = read_published()
CLAIMS = {claim.id: claim for claim in read_claims()}


def judged(id: str, results, **given):
    (found,) = judge_claims([CLAIMS[id]], results, PUBLISHED, **given)
    return found


def single(id: str, results, **given):
    (test,) = judged(id, results, **given).tests
    return test


def of(results, *names: str, **fields):
    return [
        result
        for result in results
        if result.cell.autoencoder in names and all(getattr(result.cell, k) == v for k, v in fields.items())
    ]


def with_values(results, name: str, **values: Value):
    """The results with other values of one autoencoder."""
    return [
        synthetic.changed(result, values={**result.values, **values}) if result.cell.autoencoder == name else result
        for result in results
    ]


def seeds(result, **values: list[float]):
    """A result for each value of a metric, as trainings of one entry leave them."""
    found = []
    for index, each in enumerate(zip(*values.values(), strict=True)):
        changed = {name: result.values[name].model_copy(update={"value": v}) for name, v in zip(values, each)}  # noqa: B905
        name = result.cell.autoencoder + (f"@seed{index}" if index else "")
        seed = synthetic.changed(result, values={**result.values, **changed})
        found.append(synthetic.elsewhere(seed, autoencoder=name))
    return found


# --- verdicts ---


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.7, "held"), (0.9, 1.2, "not held"), (0.7, 0.9, "undecided")]
)
def test_the_interval_decides(low, high, verdict):
    assert Size("ratio", "below", 0.8).verdict(low, high) == verdict
    mirrored = {"held": "not held", "not held": "held", "undecided": "undecided"}
    assert Size("ratio", "above", 0.8).verdict(low, high) == mirrored[verdict]


def test_equality_is_within_a_margin():
    size = Size("ratio", "within", 0.1)
    assert [size.verdict(*bounds) for bounds in ((0.95, 1.05), (1.2, 1.3), (0.95, 1.15))] == [
        "held", "not held", "undecided",
    ]  # fmt: skip


def result_of(rfid: float, base: float, error: float):
    """Residual shortcuts at f64, where the paper has 0.50 and 28.3."""
    studied = synthetic.ablation_records(random_features=False)
    place = of(studied, "dc-ae-f64", "dc-ae-f64-no-shortcuts", resolution=64)
    a, b = (Value(value=size, n=64, standard_error=error) for size in (rfid, base))
    return with_values(with_values(place, "dc-ae-f64", rfid=a), "dc-ae-f64-no-shortcuts", rfid=b)


@pytest.mark.parametrize(
    ("rfid", "base", "error", "verdict"),
    [(2.0, 20.0, 0.1, "held"), (20.0, 20.0, 0.1, "not held"), (15.0, 20.0, 3.0, "undecided")],
)
def test_shortcuts_at_f64(rfid, base, error, verdict):
    test = single("shortcuts-f64", result_of(rfid, base, error))
    assert (test.a.autoencoder, test.b.autoencoder) == ("dc-ae-f64", "dc-ae-f64-no-shortcuts")
    assert (test.metric, test.effect.scale, test.verdict) == ("rfid", "ratio", verdict)
    assert test.effect.estimate == pytest.approx(rfid / base)
    assert [value.value for value in test.published] == [0.50, 28.3]
    assert paper_text(test) == "rFID 0.50 against 28.3 (0.0177×), second-hand"


def test_without_features_that_mean_something_psnr_decides():
    random = synthetic.ablation_records(random_features=True)
    test = single("shortcuts-f64", random)
    assert (test.metric, test.effect.scale, test.random_features) == ("psnr", "difference", False)
    values = [each.values["psnr"].value for each in of(random, "dc-ae-f64", "dc-ae-f64-no-shortcuts", resolution=64)]
    assert test.effect.estimate == pytest.approx(values[0] - values[1])
    assert test.verdict == "held"
    gan = single("gan-on-head", random)  # rFID alone can tell
    assert (gan.metric, gan.random_features) == ("rfid", True)


def test_a_further_protocol_s_features_come_before_random_ones():
    random = result_of(2.0, 20.0, 0.1)
    random = [
        synthetic.changed(
            each,
            values={**each.values, "rfid": each.values["rfid"].model_copy(update={"random_features": True})},
            further={
                "trained": Measured(
                    protocol={"name": "trained"},
                    protocol_fingerprint="t",
                    values={"rfid": Value(value=size, n=64, standard_error=0.1)},
                )
            },
        )
        for each, size in zip(random, (30.0, 20.0), strict=True)
    ]
    test = single("shortcuts-f64", random)
    assert (test.readings[0].protocol, test.effect.estimate, test.verdict) == ("trained", 1.5, "not held")


def test_values_of_other_protocols_or_images_are_never_compared():
    a, b = result_of(2.0, 20.0, 0.1)
    for changed in ({"protocol_fingerprint": "other"}, {"dataset_fingerprint": "other"}):
        test = single("shortcuts-f64", [a, synthetic.changed(b, **changed)])
        assert (test.verdict, test.effect) == ("not tested", None)


def test_rows_of_images_make_the_interval_narrower():
    draw = np.random.default_rng(0)
    random = of(synthetic.ablation_records(True), "dc-ae-f64", "dc-ae-f64-no-shortcuts", resolution=64)
    shared = draw.normal(20, 6, 64)
    rows = {
        each.cell.identity: {"image": np.arange(64), "psnr": shared + shift}
        for each, shift in zip(random, (0.6, 0.0), strict=True)
    }
    changed = [
        synthetic.changed(each, values={**each.values, "psnr": Value(value=20 + shift, n=64, standard_error=0.75)})
        for each, shift in zip(random, (0.6, 0.0), strict=True)
    ]
    assert single("shortcuts-f64", changed).verdict == "undecided"
    paired = single("shortcuts-f64", changed, per_image=rows)
    assert (paired.verdict, paired.effect.paired) == ("held", True)


# --- rows ---


def test_the_penalty_is_of_one_autoencoder_at_two_resolutions():
    test = single("high-resolution-penalty", synthetic.ablation_records(False))
    assert (test.a.autoencoder, test.a.resolution, test.b.resolution) == ("dc-ae-f64-low", 128, 64)
    assert [value.value for value in test.published] == [7.40, 0.50]
    assert (test.verdict, test.effect.paired) == ("held", False)
    assert single("no-penalty-f8", synthetic.ablation_records(False)).a.autoencoder == "sd-vae-f8"


def test_a_study_compares_a_base_with_its_own_variants():
    found = judged("stacked-stages", synthetic.ablation_records(False))
    assert [(test.a.autoencoder, test.b.autoencoder) for test in found.tests] == [
        (f"dc-ae-f{f}-no-shortcuts", f"dc-ae-f8-space-to-channel-f{f}") for f in (16, 32, 64)
    ]
    assert [test.published[0] and test.published[0].value for test in found.tests] == [None, None, 28.3]


def test_dc_ae_is_compared_with_sd_vae_of_its_shape_at_every_place():
    found = judged("dc-ae-better", synthetic.demo_records(False))
    assert len(found.tests) == 6
    assert {test.verdict for test in found.tests} == {"held"}
    numbers = {(test.a.autoencoder, test.a.dataset, test.a.resolution): test.published for test in found.tests}
    at_512 = numbers["dc-ae-f64-demo", "scenes", 128]
    assert [value.value for value in at_512] == [0.22, 16.84]


def test_weights_that_others_trained_count_only_where_there_are_no_own():
    records = synthetic.demo_records(False)
    released = [
        synthetic.changed(synthetic.elsewhere(each, autoencoder="released"), number_class="re-evaluated")
        for each in of(records, "sd-vae-f32-demo")
    ]
    own = [test.b.autoencoder for test in judged("dc-ae-better", [*records, *released]).tests]
    assert "released" not in own
    without = [each for each in records if each.cell.autoencoder != "sd-vae-f32-demo"]
    assert "released" in [test.b.autoencoder for test in judged("dc-ae-better", [*without, *released]).tests]


def test_weights_of_another_training_set_are_compared_only_where_there_is_no_other():
    records = of(synthetic.demo_records(False), "dc-ae-f32-demo", "sd-vae-f32-demo", resolution=64, diffusion=None)
    mixture = [
        synthetic.elsewhere(each, autoencoder="mixture", published_dataset=None)
        for each in of(records, "sd-vae-f32-demo")
    ]
    assert [t.b.autoencoder for t in judged("dc-ae-better", [*records, *mixture]).tests] == ["sd-vae-f32-demo"]
    assert [t.b.autoencoder for t in judged("dc-ae-better", [records[-1], *mixture]).tests] == ["mixture"]


def test_speeds_are_ratios_of_one_model_on_one_device():
    records = synthetic.demo_records(False)
    test = single("training-speed-f64", records)
    values = {
        name: next(
            each.values["training_images_per_second"].value
            for each in of(records, name, patch_size=p, diffusion="uvit-demo")
            if each.kind == "efficiency"
        )
        for name, p in (("dc-ae-f64-demo", 1), ("sd-vae-f8-demo", 2))
    }
    assert test.effect.estimate == pytest.approx(values["dc-ae-f64-demo"] / values["sd-vae-f8-demo"])
    assert [value.value for value in test.published] == [6295, 352]
    elsewhere = [
        synthetic.changed(each, device={"name": "GPU"})
        if each.kind == "efficiency" and each.cell.autoencoder == "dc-ae-f64-demo"
        else each
        for each in records
    ]
    assert judged("training-speed-f64", elsewhere).verdict == "not tested"


def test_f32_has_a_quarter_of_the_tokens():
    test = single("fewer-tokens", synthetic.demo_records(False))
    assert (test.effect.low, test.effect.high, test.verdict) == (0.25, 0.25, "held")
    assert paper_text(test) == "tokens 256 against 1024 (0.25×)"


def test_one_of_two_models_leaves_the_claim_on_both_undecided():
    found = judged("f64p1-needs-large-model", synthetic.demo_records(False))
    assert [(test.a.diffusion_paper_name, test.verdict) for test in found.tests] == [("UViT-S", "held")]
    assert found.verdict == "undecided"


def test_cells_without_records_are_not_tested():
    records = result_of(2.0, 20.0, 0.1)
    found = judged("shortcuts-f64", records[:1], planned=[each.cell for each in records])
    assert [(test.verdict, test.why) for test in found.tests] == [("not tested", "not run")]
    assert judged("shortcuts-f64", []).tests == []


def test_one_comparison_that_fails_fails_the_claim():
    records = synthetic.demo_records(False)
    worse = [
        synthetic.changed(each, values={**each.values, "rfid": Value(value=90.0, n=64, standard_error=0.1)})
        if each.kind == "reconstruction" and each.cell.autoencoder == "dc-ae-f64-demo" and each.cell.resolution == 64
        else each
        for each in records
    ]
    found = judged("dc-ae-better", worse)
    assert (sum(test.verdict == "not held" for test in found.tests), found.verdict) == (1, "not held")


# --- seeds ---


def test_the_interval_covers_seeds_where_both_sides_have_several():
    a, b = result_of(10.0, 20.0, 0.1)
    alike = seeds(a, rfid=[9.9, 10.0, 10.1]) + seeds(b, rfid=[19.8, 20.0, 20.2])
    test = single("shortcuts-f64", alike)
    assert (test.effect.seeds, test.effect.covers_seeds, test.verdict) == ((3, 3), True, "held")
    assert test.effect.estimate == pytest.approx(0.5)
    scattered = seeds(a, rfid=[4.0, 10.0, 16.0]) + seeds(b, rfid=[10.0, 20.0, 30.0])
    assert single("shortcuts-f64", scattered).verdict == "undecided"


def test_text_to_image_is_undecided_with_one_training_each():
    cells = [
        {**synthetic.generation_cell("pixart-demo", "PixArt-α", name, p), "tables": (5,)}
        for name, p in (("dc-ae-f32-demo", 1), ("sd-vae-f8-demo", 2))
    ]
    records = [each for cell in cells for each in synthetic.generation(cell, False) if each.kind == "generation"]
    fids = [Value(value=size, n=256, standard_error=0.01) for size in (6.1, 6.3)]
    records = [
        synthetic.changed(each, values={"fid_with_guidance": fid}) for each, fid in zip(records, fids, strict=True)
    ]
    test = single("text-to-image-fid", records)
    assert test.verdict == "undecided" and "fewer than 2 trainings" in test.why
    assert test.effect.high < 1
    assert [value.value for value in test.published] == [6.1, 6.3]
    many = seeds(records[0], fid_with_guidance=[6.1, 6.11]) + seeds(records[1], fid_with_guidance=[6.3, 6.31])
    assert single("text-to-image-fid", many).verdict == "held"


# --- the file ---


def test_every_claim_of_the_issue_is_there_with_the_paper_s_numbers():
    numbers = {
        "sd-vae-degrades": (28.3, 0.90), "shortcuts-f64": (0.50, 28.3), "high-resolution-penalty": (7.40, 0.50),
        "no-penalty-f8": (0.19, 0.51), "phase-2-repairs": (0.20, 7.40), "gan-on-head": (0.69, 0.82),
        "gan-helps": (0.69, 3.82), "middle-layers-memory": (153.98, 67.81), "f128-keeps-accuracy": (0.23, 0.22),
        "text-to-image-clip-score": (26.41, 26.36), "more-steps-help": (12.26, 13.96),
    }  # fmt: skip
    printed = {(value.table, value.autoencoder, value.column, value.value) for value in PUBLISHED}
    for id, pair in numbers.items():
        rows = CLAIMS[id].comparisons[0].published
        for row, number in zip((rows.a, rows.b), pair, strict=True):
            assert any((row.table, row.autoencoder, number) == (t, a, v) for t, a, _, v in printed), (id, number)


def test_every_published_row_that_a_claim_names_is_printed():
    printed = {(value.table, value.autoencoder) for value in PUBLISHED}
    named = [
        (row.table, row.autoencoder)
        for claim in CLAIMS.values()
        for each in claim.comparisons
        if each.published
        for row in (each.published.a, each.published.b)
        if row
    ]
    assert named and set(named) <= printed


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", {"rfid": "smaller"}, 'expected "ratio", "difference" or "value"'),
        ("comparisons", [{"a": {"role": "base"}}], "a side has a role, so study is needed"),
        ("colour", "red", "colour"),
    ],
)
def test_mistakes_are_named(tmp_path, field, value, message):
    import yaml

    claim = {
        "id": "x", "claim": "x", "place": "x", "topic": "x", "metrics": {"rfid": "ratio below 1"},
        "comparisons": [{"a": {}}],
    }  # fmt: skip
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [claim | {field: value}]}))
    with pytest.raises(ConfigError, match=message):
        read_claims(path)
    path.write_text(yaml.safe_dump({"claims": [claim, claim]}))
    with pytest.raises(ConfigError, match="more than once: x"):
        read_claims(path)


# --- benchmarks ---


def claims_with_rows(file: str) -> set[str]:
    """The claims that a benchmark has rows for."""
    cells = [cell for _, cell in planned_cells(Benchmark.load(file))]
    return {each.claim.id for each in judge_claims(read_claims(), [], PUBLISHED, planned=cells) if each.tests}


def test_paper_and_ablations_have_the_rows_for_every_claim_of_a_benchmark():
    of_suites = {claim.id for claim in CLAIMS.values() if claim.measures in ("autoencoder", "phases")}
    assert claims_with_rows("config/paper.yaml") | claims_with_rows("config/ablations.yaml") == set(CLAIMS) - of_suites


@pytest.mark.parametrize(
    ("file", "pairs"),
    [
        ("miniature", {"sd-vae-f32c64-three-phase-mini": "sd-vae-f32c64-mini"}),
        ("ablations", {"sd-vae-f32c32-three-phase": "sd-vae-f32c32", "dc-ae-f32c32": "dc-ae-f32c32-single-phase"}),
    ],
)
def test_three_phases_are_compared_with_a_single_one_of_the_same_widths(file, pairs):
    cells = [cell for _, cell in planned_cells(Benchmark.load(f"config/{file}.yaml"))]
    found = judged("three-phases", [], planned=cells)
    assert {test.a.autoencoder: test.b.autoencoder for test in found.tests} == pairs


def test_one_sided_claims():
    cell = replace(
        synthetic.ablation_records()[0].cell, dataset=None, resolution=1024, measures="phases", diffusion=None
    )
    like = synthetic.result("efficiency", vars(cell), {"full_to_middle": Value(value=2.4, n=1)})
    test = single("middle-layers-memory", [like])
    assert (test.effect.estimate, test.effect.low, test.verdict) == (2.4, 2.4, "held")
    assert paper_text(test) == "GB 153.98 against 67.81 (2.27×)"


# --- table and text ---


def test_the_table_shows_what_was_measured_and_the_paper_s_value():
    claims = judge_claims(CLAIMS.values(), result_of(2.0, 20.0, 0.1), PUBLISHED)
    table = build_claims(claims, "demo")
    assert "1 held, 0 not held, 0 undecided" in table.caption
    (section,) = (each for each in table.sections if each.heading == "Residual autoencoding")
    texts = [str(entry) for row in section.rows for entry in row if isinstance(entry, str)]
    assert "HELD: Residual shortcuts close the gap at f64 (Figure 3a)" in texts
    assert any("images alone" in note for note in table.notes)
    lines = to_csv(table).splitlines()
    assert len(lines) == 1 + len(claims)
    assert sum(",held," in line for line in lines) == 1
    for render in FORMATS.values():
        assert "rFID 0.50 against 28.3" in render(table)


def test_the_text_ends_with_the_counts():
    claims = judge_claims(CLAIMS.values(), result_of(2.0, 20.0, 0.1), PUBLISHED)
    text = as_text(claims)
    assert text.endswith(f"of {len(CLAIMS)} claims") and counts(claims) in text
    assert "rFID: ratio 0.10 [" in text and "N 64, seeds 1, 1, interval over images alone" in text


def test_a_claim_needs_a_metric():
    with pytest.raises(ValueError, match="metrics"):
        Claim(id="x", claim="x", place="x", topic="x", metrics={}, comparisons=[{"a": {}}])
    assert math.isinf(Size("ratio", "above", 1).accepted[1])

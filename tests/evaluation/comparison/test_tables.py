# SPDX-License-Identifier: Apache-2.0
"""Means, differences image by image, and which of them is bold."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ttest_rel

from evaluation.comparison.gallery import rank, ranking_metric
from evaluation.comparison.tables import difference, main_table, paired_table
from evaluation.metrics.registry import IMAGE_METRICS, mean_value
from evaluation.quality.reconstruction import Reconstruction
from evaluation.tables.formats import Number, to_markdown

PSNR, SSIM, LPIPS = IMAGE_METRICS


def measured(**columns) -> Reconstruction:
    per_image = {name: torch.as_tensor(column, dtype=torch.float64) for name, column in columns.items()}
    values = {name: mean_value(column) for name, column in per_image.items()}
    return Reconstruction(values, per_image, torch.empty(0))


def images(seed: int, n: int = 40) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_difference_is_seen_that_the_errors_of_the_means_would_hide():
    base = 25 + 4 * images(0)  # images differ by 4 dB, autoencoders by 0.3
    a, b = measured(psnr=base), measured(psnr=base - 0.3 + 0.1 * images(1))
    found = difference(a, b, PSNR)
    assert found.verdict == "better" and difference(b, a, PSNR).verdict == "worse"
    assert a.values["psnr"].standard_error > 10 * found.standard_error
    reference = ttest_rel(a.per_image["psnr"], b.per_image["psnr"])
    assert found.difference / found.standard_error == pytest.approx(reference.statistic, rel=1e-9)


def test_less_is_better_for_lpips_and_equal_is_not_distinguishable():
    base = images(2).abs()
    a, b = measured(lpips=base), measured(lpips=base + 0.1 + 0.01 * images(3))
    assert difference(a, b, LPIPS).verdict == "better"
    assert difference(a, a, LPIPS).verdict == "not distinguishable"


def test_nothing_is_bold_where_a_control_is_better():
    base = 25 + 4 * images(0)
    rows = {"a": measured(psnr=base), "b": measured(psnr=base - 1), "blur": measured(psnr=base - 2)}
    shapes = dict.fromkeys(rows, "1x1x1")
    assert "**24" in to_markdown(main_table(rows, shapes, "title", "caption"))
    rows["blur"] = measured(psnr=base + 1)
    assert "**" not in to_markdown(main_table(rows, shapes, "title", "caption"))


def test_only_what_is_better_than_every_other_is_bold_and_a_perfect_control_does_not_contend():
    base = 25 + 4 * images(0)
    rows = {
        "identity": measured(psnr=[math.inf] * 40, ssim=[1.0] * 40),
        "a": measured(psnr=base, ssim=base / 100),
        "b": measured(psnr=base - 1 + 0.1 * images(1), ssim=base / 100 + 1e-4 * images(1)),
    }
    shapes = dict.fromkeys(rows, "1x1x1")
    text = to_markdown(main_table(rows, shapes, "title", "caption"))
    assert text.count("**") == 2 and "**24" in text.split("| a ")[1].splitlines()[0]
    assert difference(rows["identity"], rows["a"], PSNR) is None


def test_one_picture_that_comes_back_perfect_excludes_from_no_other_metric():
    base = images(2).abs() + 0.1
    psnr = (25 + 4 * images(0)).tolist()
    rows = {
        "a": measured(psnr=[math.inf, *psnr[1:]], lpips=base),
        "b": measured(psnr=psnr, lpips=base + 0.1 + 0.01 * images(3)),
    }
    [row_a, row_b] = main_table(rows, dict.fromkeys(rows, "1x1x1"), "title", "caption").sections[0].rows
    assert [entry.bold for entry in row_a if isinstance(entry, Number)] == [False, True]  # PSNR, LPIPS
    assert not any(entry.bold for entry in row_b if isinstance(entry, Number))


def test_each_pair_is_compared_once():
    rows = {name: measured(psnr=images(seed)) for seed, name in enumerate("abc")}
    [section] = paired_table(rows).sections
    assert [row[:2] for row in section.rows] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert paired_table({"a": rows["a"]}).sections == []


def test_each_picture_is_ranked_once_by_the_mean_over_autoencoders_and_perfect_ones_are_last():
    rows = {
        "a": measured(psnr=[20.0, math.inf, 10.0, 30.0]),
        "b": measured(psnr=[26.0, math.inf, 30.0, math.inf]),
        "blur": measured(psnr=[1.0, 2.0, 3.0, 4.0]),
    }
    assert rank(rows) == [(2, 20.0), (0, 23.0), (3, 30.0), (1, math.inf)]
    assert [index for index, _ in rank({"blur": rows["blur"]})] == [0, 1, 2, 3]


def test_lpips_ranks_with_trained_weights_alone():
    values = {"psnr": [20.0, 10.0], "lpips": [0.5, 0.1]}
    trained, random = measured(**values), measured(**values)
    random.values["lpips"] = random.values["lpips"].model_copy(update={"random_features": True})
    assert ranking_metric({"a": trained}) is LPIPS and rank({"a": trained}) == [(0, 0.5), (1, 0.1)]
    for rows in ({"a": random}, {"a": trained, "b": random}, {"a": measured(psnr=[20.0, 10.0])}):
        assert ranking_metric(rows) is PSNR and [index for index, _ in rank(rows)] == [1, 0]

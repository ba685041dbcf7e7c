# SPDX-License-Identifier: Apache-2.0
"""The page as a browser without scripts sees it: every number and its record, and nothing from outside."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dcae.benchmark.record import Value
from evaluation.page import pictures
from evaluation.quality.image_grid import read_grid
from evaluation.tables.formats import Number, format_number
from evaluation.tables.registry import build_tables
from evaluation.tables.rows import SUPPLIED
from tests.evaluation import synthetic
from tests.evaluation.page.conftest import IMAGES, PROMPTS
from tests.evaluation.page.parsed import Page


@pytest.fixture(scope="module")
def parsed(page) -> Page:
    return Page(page)


def test_every_number_of_every_table_is_there_and_opens_its_record(run, page, parsed):
    ids = {attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes}
    links: dict[str, list[str]] = {}
    for attributes, text in parsed.find("a", **{"class": "number"}):
        links.setdefault(text, []).append(attributes["href"].removeprefix("#"))
    assert {anchor for anchors in links.values() for anchor in anchors} <= ids
    checked = 0
    for name, table in build_tables(run.benchmark, run.results, {}):
        for section in table.sections:
            for row in section.rows:
                for column, entry in zip(table.columns, row, strict=True):
                    shown = column.printed or (name == "claims" and "value" in column.name)
                    if isinstance(entry, Number) and entry.value is not None and shown:
                        if "tokens" in row:  # known from the cell alone
                            continue
                        assert entry.source is not None, (name, column.name, row[0])
                        assert format_number(entry) in links, (name, column.name)
                        checked += 1
    assert checked > 400
    assert "<table" in page.split('id="h-table2"')[1].split("</section>")[0]


def test_a_number_leads_to_the_value_it_is_made_from(run, parsed):
    [own] = [result for result in run.results if result.cell.supplied]
    text = format_number(Number(own.values["rfid"].value, 2, standard_error=own.values["rfid"].standard_error))
    [anchor] = {attributes["href"] for attributes, found in parsed.find("a", **{"class": "number"}) if found == text}
    [(_, row)] = parsed.find("tr", id=anchor.removeprefix("#"))
    assert row == "rfid 0.9 0.045 64 features of random networks"
    [(_, article)] = parsed.find("article", id=anchor.removeprefix("#").split("-")[0])
    for part in ("Test CPU", "2025-01-01", "Command dcae", "reconstruction-protocol", "too few images", "wall_seconds"):
        assert part in article
    assert parsed.find("tr", id=f"{anchor.removeprefix('#').split('-')[0]}-other-kid"), "of an additional protocol"


def test_a_published_number_leads_to_its_source(parsed):
    anchors = {a["href"] for a, text in parsed.find("a", **{"class": "number"}) if text == "0.69" and "#p" in a["href"]}
    sources = [text for anchor in anchors for _, text in parsed.find("article", id=anchor.removeprefix("#"))]
    assert any("arXiv 2410.10733v1, Table 2" in text and "DC-AE-f32" in text for text in sources)


def test_nothing_comes_from_outside(page, parsed):
    addresses = [
        value
        for _, attributes, _ in parsed.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
    ]
    assert addresses
    assert {address for address in addresses if not address.startswith(("#", "data:"))} == set()
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    [(policy, _)] = parsed.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]


def test_ids_are_unique_and_every_link_has_a_target(parsed):
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for attributes, _ in parsed.find("a")}
    assert {link for link in links if link.removeprefix("#") not in ids} == set()


def test_texts_from_outside_are_escaped(run):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
    facts = synthetic.autoencoder(evil, 8, 4, evil)
    result = synthetic.changed(
        synthetic.reconstruction("scenes", 64, facts, 0.5), remarks=[evil], excluded={evil: evil}
    )
    page = run.page([result], [evil])
    parsed = Page(page)
    assert evil in "".join(parsed.find("article", id="r1")[0][1])
    assert len(parsed.find("script")) == 2
    assert not parsed.find("img", src="x")
    [(_, data)] = parsed.find("script", type="application/json")
    assert json.loads(data)["points"][0]["name"] == evil


def test_the_users_own_autoencoder_is_highlighted(run, parsed):
    rows = [text for attributes, text in parsed.find("tr") if attributes.get("class") == "own"]
    assert rows and all("own" in row for row in rows)
    assert SUPPLIED in [text for _, text in parsed.find("th", scope="rowgroup")]
    points = json.loads(parsed.find("script", type="application/json")[0][1])["points"]
    assert {point["name"] for point in points if point["own"]} == {"own"}


def test_claims_have_their_verdicts(run, parsed):
    claims = dict(build_tables(run.benchmark, run.results, {}))["claims"]
    names = [column.name for column in claims.columns]
    expected = {row[names.index("Statement")]: row[names.index("Verdict on the claim")]
                for section in claims.sections for row in section.rows}  # fmt: skip
    found = parsed.find("details", **{"class": "claim"})
    assert len(found) == len(expected)
    for statement, verdict in expected.items():
        assert [a["data-verdict"] for a, text in found if statement in text] == [verdict]


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_sample_images_are_on_the_page_to_the_pixel(run, parsed):
    [result] = [each for each in run.results if each.cell.supplied]
    tiles = [pixels_of(each["src"]) for each, _ in parsed.find("img") if ": own (f16c16)" in each["alt"]]
    assert np.array_equal(tiles, read_grid(run.grid_of(result), 64)[1])
    generated = [each for each, _ in parsed.find("img") if "with guidance" in each["alt"]]
    assert len(generated) == IMAGES * sum(each.kind == "generation" for each in run.results)
    below = [text for _, text in parsed.find("div", **{"class": "tile"})]
    assert below == PROMPTS * (2 * len(generated) // IMAGES)  # without and with guidance


def test_the_page_stays_small(run, monkeypatch):
    whole = sum(len(base64.b64decode(url)) for url in re.findall(r"data:image/png;base64,([^\"]+)", run.page()))
    monkeypatch.setattr(pictures, "RECONSTRUCTION_BYTES", whole // 3)
    monkeypatch.setattr(pictures, "GENERATION_BYTES", 1)
    page = run.page()
    left = sum(len(base64.b64decode(url)) for url in re.findall(r"data:image/png;base64,([^\"]+)", page))
    assert 0 < left <= whole // 3
    assert f" of {IMAGES} images, so that the page stays small" in page
    assert f"0 of {IMAGES} images" in page


def test_what_is_missing_is_named_with_its_reason(run, tmp_path):
    broken = run.grid_of(run.results[0])
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    problems = ["some/record.json is no record"]
    try:
        page = run.page(problems=problems)
    finally:
        broken.write_bytes(content)
    missing = Page(page.split('<section id="missing"')[1].split("</section>")[0].partition(">")[2])
    assert [str(broken) in problem for problem in problems] == [False, True]
    items = [text for _, text in missing.find("li")]
    assert all(problem in items for problem in problems)
    assert "rfid_infinity, in 1 records: too few images" in items
    assert "uvit-mini p1 on dc-ae-f32c64-mini, demo-scenes 128 px" in items


def test_a_training_log_becomes_a_curve(parsed):
    curves = parsed.find("path")
    assert len(curves) == 1
    places = [tuple(map(float, place.split(","))) for place in curves[0][0]["d"].removeprefix("M").split("L")]
    assert len(places) == 100 and places[-1] == (300.0, 90.0) and places[0][1] == 0.0
    [(_, text)] = [each for each in parsed.find("p") if "300 steps" in each[1]]
    assert "validation_psnr 20.5" in text


def test_points_have_their_record_and_the_papers_stand_beside_them(run, parsed):
    data = json.loads(parsed.find("script", type="application/json")[0][1])
    ids = {attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes}
    points = data["points"]
    assert {anchor for point in points for *_, anchor in point["qualities"].values()} <= ids
    measured = [point for point in points if not point["published"] and "latent_size" in point["costs"]]
    quality = [each for each in run.results if each.kind != "efficiency" and each.record.number_class != "control"]
    assert len(measured) == len(quality)
    [own] = [point for point in measured if point["own"]]
    assert own["costs"]["latent_size"] == 4 * 4 * 16 and own["qualities"]["psnr"][1] == 0.2
    assert {point["place"] for point in points if point["published"]} <= {
        paper for place in data["places"].values() for paper in place["paper"]
    }
    assert any(point["published"] for point in points)
    fast = [
        point for point in points if "rfid" in point["qualities"] and "inference_images_per_second" in point["costs"]
    ]
    assert fast, "quality of reconstruction against throughput"


def test_means_over_seeds_show_each_training(run):
    facts = [synthetic.autoencoder(name, 8, 4, None) for name in ("a", "a@seed1")]
    results = [synthetic.reconstruction("scenes", 64, each, 0.5) for each in facts]
    values = [Value(value=value, n=64, standard_error=1.0) for value in (10.0, 12.0)]
    results = [synthetic.changed(each, values={"rfid": value}) for each, value in zip(results, values, strict=True)]
    [(_, text)] = Page(run.page(results)).find("tr", id="r1-rfid")
    assert "rfid 11 " in text and "mean over trainings: 10, 12" in text


def test_a_benchmark_without_results_has_a_page(run):
    parsed = Page(run.page([]))
    assert "reconstruction 0 of" in parsed.find("dd")[0][1]
    assert parsed.find("table") and not parsed.find("article", id="r1")

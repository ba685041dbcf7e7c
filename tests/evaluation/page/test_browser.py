# SPDX-License-Identifier: Apache-2.0
"""The page as a reader uses it, in headless Chromium: sort, filter, open a record, move a slider, plot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from dcae.benchmark import Config
from evaluation.comparison.compare import Contender, compare, write_comparison
from evaluation.metrics.registry import IMAGE_METRICS
from tests.evaluation.page.browser import END, ENTER, ESCAPE, MISSING, Browser, chromium

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

WIDTHS = (1280, 390)
COLUMN = """
const rows = [...document.querySelectorAll("#table-table2 .rows tr")].filter((row) => !row.hidden);
const titles = [...document.querySelectorAll("#table-table2 thead th")].map((each) => each.textContent);
const index = titles.findIndex((title) => title.startsWith(arguments[0]));
return rows.map((row) => row.cells[index].dataset.sort ?? row.cells[index].textContent);
"""
HEADING = """
const buttons = [...document.querySelectorAll("#table-table2 thead button")];
const heading = buttons.find((each) => each.textContent.startsWith(arguments[0]));
"""
CHOOSE = """
const select = document.querySelector(arguments[0]);
select.value = arguments[1];
select.dispatchEvent(new Event("change"));
"""
PIXELS = """
const canvas = document.querySelector(".viewer canvas.reconstruction");
return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data].slice(0, 3);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(page, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("browser") / "index.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(params=WIDTHS)
def opened(request, browser, address) -> Browser:
    browser.open(address, request.param)
    return browser


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> str:
    """The page of ``dcae compare`` on three pictures, whose noise grows."""
    folder = tmp_path_factory.mktemp("compared")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    for index, share in enumerate((0.1, 0.5, 1.0)):
        Image.fromarray((share * noise).astype(np.uint8)).save(folder / f"{index}.png")
    contenders = [Contender(Config().entry("autoencoders", name)) for name in ("identity", "blur")]
    protocol = Config().entry("protocols", "random-features")
    found = compare(folder, contenders, protocol, 64, Config(), tell=str, metrics=IMAGE_METRICS[:2])
    return write_comparison(found, folder / "out", {})[0].as_uri()


@pytest.fixture(params=WIDTHS)
def opened_comparison(request, browser, compared) -> Browser:
    browser.open(compared, request.param)
    return browser


@pytest.mark.parametrize("name", ["address", "compared"])
def test_the_page_is_silent_asks_for_nothing_and_fits(browser, request, name):
    address = request.getfixturevalue(name)
    browser.log("performance")
    for width in WIDTHS:
        browser.open(address, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = {each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", address))} == set()
    assert address in asked


def test_a_table_is_sorted_by_a_column_across_its_sections_and_back(opened):
    before = opened.run(COLUMN, "PSNR")
    orders = []
    for _ in range(3):
        opened.run(f"{HEADING} heading.click()", "PSNR")
        orders.append(opened.run(COLUMN, "PSNR"))
    ascending, descending, restored = orders
    numbers = [float(text) for text in ascending if text != "not run" and text != "–"]
    assert len(numbers) > 20 and numbers == sorted(numbers)
    assert [float(text) for text in descending[: len(numbers)]] == sorted(numbers, reverse=True)
    assert restored == before
    assert opened.run("return document.querySelectorAll('#table-table2 [aria-sort]').length") == 0


def test_a_table_is_sorted_from_the_keyboard(opened):
    opened.run(f"{HEADING} heading.focus()", "PSNR")
    opened.press(ENTER)
    assert opened.run("return document.querySelector('[aria-sort]').textContent").startswith("PSNR")


def test_a_filter_leaves_the_rows_with_its_words(opened):
    opened.run("""
        const input = document.querySelector('.tools[data-for="table2"] input');
        input.value = "dc-ae-f64 no-residual";
        input.dispatchEvent(new Event("input"));
    """)
    names = opened.run(COLUMN, "Autoencoder")
    assert names and all("dc-ae-f64-no-residual" in name for name in names)
    status = "return document.querySelector('.tools[data-for=\"table2\"] [role=status]').textContent"
    assert opened.run(status).startswith(f"{len(names)} of ")


def test_a_number_opens_its_record_and_escape_returns_to_it(opened):
    said = opened.run("""
        const link = document.querySelector("#table-table2 tr.own a.number");
        link.focus();
        return link.textContent;
    """)
    opened.press(ENTER)
    assert opened.run("return document.getElementById('record').open")
    text = opened.run("return document.getElementById('record').textContent")
    assert "own, scenes at 64 px" in text and "N = 64" in text and "Test CPU" in text
    assert opened.run("return document.querySelector('#record .hit').cells[1].textContent.trim()") in said
    assert opened.run("return document.getElementById('record-title').textContent").startswith("reconstruction")
    opened.press(ESCAPE)
    assert not opened.run("return document.getElementById('record').open")
    assert opened.run("return document.activeElement.textContent") == said


def test_the_plot_shows_measured_and_printed_points_which_open_their_records(opened):
    opened.run(CHOOSE, "#scatter-tools label:nth-of-type(1) select", "fid_with_guidance")
    opened.run(CHOOSE, "#scatter-tools label:nth-of-type(2) select", "inference_images_per_second")
    count = "return document.querySelectorAll('#scatter-plot a').length"
    measured = opened.run(count)
    assert measured > 3
    opened.run("document.querySelector('#scatter-tools input').click()")
    assert opened.run(count) > measured
    opened.run("document.querySelector('#scatter-plot a').focus()")
    opened.press(ENTER)
    assert "fid_with_guidance" in opened.run("return document.querySelector('#record .answer').textContent")
    opened.press(ESCAPE)


def test_every_quality_and_cost_can_be_plotted(opened):
    """None of the combinations may leave the plot without points."""
    empty = opened.run("""
        const [quality, cost, place] = document.querySelectorAll("#scatter-tools select");
        const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };
        const values = (select) => [...select.options].map((each) => each.value);
        const empty = [];
        for (const q of values(quality)) {
          choose(quality, q);
          for (const p of values(place)) {
            choose(place, p);
            for (const c of values(cost)) {
              choose(cost, c);
              const drawn = document.getElementById("scatter-plot");
              if (!drawn.querySelector("a") || drawn.innerHTML.includes("NaN")) empty.push([q, p, c]);
            }
          }
        }
        return empty;
    """)
    assert empty == []
    assert opened.log("browser") == []


def test_the_slider_uncovers_the_original(opened):
    opened.do("/execute/async", script="setTimeout(arguments[0], 500)", args=[])  # until images are decoded
    opened.run("document.querySelector('.viewer .slider').focus()")
    opened.press(END)
    assert opened.run("return document.querySelector('.viewer canvas.reconstruction').style.clipPath").endswith("100%)")
    image = opened.run(PIXELS)
    opened.run(CHOOSE, ".viewer .view", "1")
    difference = opened.run(PIXELS)
    # The invented reconstructions are the negatives of the originals.
    assert difference == [abs(2 * value - 255) for value in image]
    error = opened.run("return document.querySelector('.viewer output').textContent")
    assert error.startswith("PSNR of this image ") and error.endswith(" dB")
    opened.run("const z = document.querySelector('.viewer .zoom'); z.value = 2; z.dispatchEvent(new Event('input'))")
    assert opened.run("return document.querySelector('.viewer canvas').clientWidth") == 128


def test_claims_are_filtered_by_verdict(opened):
    opened.run(CHOOSE, "#claim-filter select", "held")
    shown = opened.run(
        "return [...document.querySelectorAll('.claim')].filter((e) => !e.hidden).map((e) => e.dataset.verdict)"
    )
    assert shown and set(shown) == {"held"}


def text_of(browser: Browser, selector: str, expected: str) -> str:
    """Return the text of an element as soon as it begins as expected, within ten seconds."""
    for _ in range(50):
        if (text := browser.run("return document.querySelector(arguments[0]).textContent", selector)).startswith(
            expected
        ):
            break
        time.sleep(0.2)
    return text


def test_a_comparison_shows_each_picture_once_the_worst_first(opened_comparison):
    names = "return [...document.querySelectorAll('.thumbnails button')].map((each) => each.textContent)"
    titles = opened_comparison.run(names)
    assert [title.partition("PSNR")[0] for title in titles] == ["1 2.png", "2 1.png", "3 0.png"]
    opened_comparison.run(CHOOSE, ".viewer .which", "2")
    blurred = text_of(opened_comparison, ".viewer output", "PSNR 1")
    assert titles[0].partition("PSNR")[2].split()[0] in blurred and "SSIM" in blurred
    opened_comparison.run("document.querySelectorAll('.thumbnails button')[2].focus()")
    opened_comparison.press(ENTER)
    assert text_of(opened_comparison, ".viewer output", "PSNR 3").startswith("PSNR 3")
    current = "return document.querySelector('.thumbnails [aria-current=true]').textContent"
    assert opened_comparison.run(current) == titles[2]
    opened_comparison.run(CHOOSE, ".viewer .which", "1")
    assert text_of(opened_comparison, ".viewer output", "PSNR ∞") == "PSNR ∞ dB, SSIM 1"
    opened_comparison.run(CHOOSE, ".viewer .view", "4")
    opened_comparison.do("/execute/async", script="setTimeout(arguments[0], 300)", args=[])
    assert opened_comparison.run(PIXELS) == [0, 0, 0]


def test_a_comparison_is_sorted_and_its_numbers_open_their_records(opened_comparison):
    opened_comparison.run("""
        const headings = [...document.querySelectorAll("#table-reconstruction thead button")];
        headings.find((each) => each.textContent.startsWith("PSNR")).click();
    """)
    rows = (
        "return [...document.querySelectorAll('#table-reconstruction .rows tr')].map((row) => row.cells[0].textContent)"
    )
    assert opened_comparison.run(rows) == ["blur", "identity"]
    opened_comparison.run("document.querySelector('#table-reconstruction a.number').focus()")
    opened_comparison.press(ENTER)
    text = opened_comparison.run("return document.getElementById('record').textContent")
    assert "psnr = " in text and "N = 3" in text and "blur, " in text
    opened_comparison.press(ESCAPE)

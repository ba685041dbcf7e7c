# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML file: works offline, without scripts, in light and dark, and in print."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jinja2 import Environment, StrictUndefined
from PIL import Image, ImageDraw
from torch import Tensor

from dcae.data.crop import adm_crop, to_pixels
from evaluation.comparison.worst import WorstImage
from evaluation.metrics.registry import ImageMetric
from evaluation.quality.reconstruction import Reconstruction
from evaluation.tables.formats import Table, html_sections

NARROWEST_CROP = 128  # pixels in a PNG, so that a name fits above it
OVERVIEW_SIDE = 192  # pixels of the whole picture; crops have the same size on the page

STYLE = """
:root { color-scheme: light dark;
        --text: #1b1b1b; --soft: #5d5d5d; --line: #d9d9d9; --ground: #ffffff; --mark: #c4320a }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --soft: #a6a6a6; --line: #3c3c3c; --ground: #161616; --mark: #ff9466 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); max-width: 76rem;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0.3rem } h2 { font-size: 1.25rem; margin-top: 2.2rem }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; overflow-wrap: anywhere }
p, li { max-width: 62rem } .soft, figcaption { color: var(--soft) }
.warnings li { white-space: pre-line; overflow-wrap: anywhere } .warnings b { color: var(--mark) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.25rem 0.8rem; border-bottom: 1px solid var(--line); white-space: nowrap }
figure { margin: 0.6rem 0 1.4rem } figcaption { font-size: 0.88rem; overflow-wrap: anywhere; margin-bottom: 0.3rem }
.tiles { display: flex; flex-wrap: wrap; gap: 0.7rem }
.tile { width: 192px; font-size: 0.82rem; line-height: 1.3; overflow-wrap: anywhere }
.tile img { display: block; width: 192px; height: 192px; image-rendering: pixelated; background: var(--line) }
.whole img { image-rendering: auto } .own { color: var(--mark); font-weight: 600 }
@media print {
  :root { color-scheme: light; --text: #000; --soft: #444; --line: #bbb; --ground: #fff; --mark: #9c2706 }
  body { max-width: none; margin: 0; font-size: 10pt } figure, tr { break-inside: avoid } h2, h3 { break-after: avoid }
  .tile, .tile img { width: 31mm } .tile img { height: 31mm; print-color-adjust: exact } .wide { overflow: visible }
  th, td { padding: 0.15rem 0.4rem; white-space: normal }
}
"""


TEMPLATE = """\
{% macro tile(image, label, values, picture, kind="", own=false) -%}
<div class="tile{{ kind }}"><img src="{{ image | data_url }}" alt="{{ label }}: {{ picture }}">
<span class="{{ "own" if own }}">{{ label }}</span><br><span class="soft">{{ values }}</span></div>
{%- endmacro -%}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<h1>{{ page.title }}</h1>
<p>{{ page.introduction }}</p>
{% if page.warnings %}
<h2>Before you read the numbers</h2>
<ul class="warnings">
{% for line in page.warnings %}
<li><b>{{ line.partition(":")[0] }}</b>:{{ line.partition(":")[2] }}</li>
{% endfor %}
</ul>
{% endif %}
{% for table in page.tables if table.sections %}
<section>
<h2>{{ table.title }}</h2>
{% if table.caption %}
<p class="soft">{{ table.caption }}</p>
{% endif %}
<div class="wide">{{ table | body | safe }}</div>
</section>
{% endfor %}
{% if page.worst %}
<section>
<h2>Worst images</h2>
<p class="soft">For each autoencoder the images with the {{ "lowest" if ranking.better == "higher" else "highest" }}
{{ ranking.title }}, the worst first. The first tile is the whole image with a frame; the others show the content of the
frame, the place of that autoencoder's largest error. Pixels are enlarged, not smoothed.</p>
{% for autoencoder, images in page.worst.items() %}
<h3>{{ autoencoder }}</h3>
{% if not images %}
<p class="soft">No image differs from its reconstruction.</p>
{% endif %}
{% for image in images %}
{% set picture = page.names[image.index] %}
<figure>
<figcaption>{{ picture }}</figcaption>
<div class="tiles">
{{ tile(image | framed, "whole image", "", picture, " whole") }}
{{ tile(image.region.of(image.original), "original", "", picture) }}
{% for name, reconstruction in image.reconstructions.items() %}
{{ tile(image.region.of(reconstruction), name, values(name, image.index), picture, own=name == autoencoder) }}
{% endfor %}
</div>
</figure>
{% endfor %}
{% endfor %}
</section>
{% endif %}
<h2>How it was measured</h2>
<ul>
{% for line in page.footer %}
<li>{{ line }}</li>
{% endfor %}
</ul>
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """Content of a page.

    Attributes:
        title: heading of the page.
        introduction: sentences below it.
        warnings: what was left out and why, one line each, as ``kind: reason``.
        tables: under headings of their own, in order.
        worst: worst images of each autoencoder.
        measured: values of every image, by autoencoder.
        metrics: of single images, that are shown below the crops.
        names: of the pictures.
        ranking: name of the metric that ranks the pictures.
        footer: how it was measured, one line each.
    """

    title: str
    introduction: str
    warnings: Sequence[str]
    tables: Sequence[Table]
    worst: Mapping[str, Sequence[WorstImage]]
    measured: Mapping[str, Reconstruction]
    metrics: Sequence[ImageMetric]
    names: Sequence[str]
    ranking: str
    footer: Sequence[str]


def to_page(page: Page) -> str:
    """Return the file; everything from outside, such as names of files, is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"data_url": _data_url, "body": _body, "framed": _framed}
    ranking = next(metric for metric in page.metrics if metric.name == page.ranking)
    values = partial(_values, page)
    return environment.from_string(TEMPLATE).render(page=page, style=STYLE, ranking=ranking, values=values)


def _body(table: Table) -> str:
    """Return a table as HTML; the heading of a single section would repeat the table's title."""
    whole = html_sections(table, "h3")
    return whole.partition("</h3>")[2] if len(table.sections) == 1 else whole


def _data_url(image: Tensor) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def _values(page: Page, autoencoder: str, index: int) -> str:
    """Return the values of one image, with three digits."""
    rows = page.measured[autoencoder].per_image
    numbers = {metric: f"{float(rows[metric.name][index]):.3g}".replace("inf", "∞") for metric in page.metrics}
    return ", ".join(f"{metric.title} {number} {metric.unit}".strip() for metric, number in numbers.items())


# --- pictures -------------------------------------------------------------------------------------------------------


def _framed(worst: WorstImage) -> Tensor:
    """Return the whole picture, uint8 [3, 192, 192], with a frame around the region, black within white."""
    original, region = worst.original, worst.region
    image = Image.fromarray(original.permute(1, 2, 0).numpy())
    scale = OVERVIEW_SIDE / original.shape[-1]
    small = torch.from_numpy(to_pixels(adm_crop(image, OVERVIEW_SIDE)).copy())
    for inset, grey in ((0, 255), (1, 0)):
        low = [round(place * scale) + inset for place in (region.top, region.left)]
        high = [round((place + region.side) * scale) - 1 - inset for place in (region.top, region.left)]
        small[:, (low[0], high[0]), low[1] : high[1] + 1] = grey
        small[:, low[0] : high[0] + 1, (low[1], high[1])] = grey
    return small


def png(image: Tensor) -> bytes:
    """Encode uint8 [3, H, W] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def side_by_side(image: WorstImage) -> bytes:
    """Return the crops of one of the worst images as one PNG: original, then each autoencoder, with names above.

    Small crops are enlarged by repeating pixels.
    """
    named = {"original": image.original, **image.reconstructions}
    enlarged = -(-NARROWEST_CROP // image.region.side)
    crops = [image.region.of(each) for each in named.values()]
    crops = [crop.repeat_interleave(enlarged, dim=-1).repeat_interleave(enlarged, dim=-2) for crop in crops]
    titled = [torch.cat([_title(name, crop.shape[-1]), crop], dim=-2) for name, crop in zip(named, crops, strict=True)]
    padded = [F.pad(crop, (0, 4), value=255) for crop in titled[:-1]]
    return png(torch.cat([*padded, titled[-1]], dim=-1))


def _title(name: str, width: int) -> Tensor:
    """Return a name in black on white, uint8 [3, 16, width]; long names are cut off."""
    strip = Image.new("RGB", (width, 16), "white")
    ImageDraw.Draw(strip).text((2, 2), name, fill="black")
    return torch.from_numpy(np.array(strip)).permute(2, 0, 1)

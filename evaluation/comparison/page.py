# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML file: opens offline, without scripts, in light and dark, and prints."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from dcae.data.crop import adm_crop, to_pixels
from evaluation.comparison.measuring import Measured
from evaluation.comparison.worst import Region, WorstImage
from evaluation.tables.formats import Table, html_sections

NARROWEST_CROP = 128  # pixels in a PNG, so that a name has room above it
OVERVIEW_SIDE = 192  # pixels of the whole picture as shown; crops are shown at the same size
DIGITS = {"psnr": ("{:.1f} dB", "PSNR"), "ssim": ("{:.3f}", "SSIM"), "lpips": ("{:.3f}", "LPIPS")}

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


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: heading of the page.
        introduction: sentences below it.
        warnings: what was left out and why, one line each.
        tables: under headings of their own, in order.
        ranking: metric that decides which pictures are worst.
        footer: how it was measured.
    """

    title: str
    introduction: str
    warnings: Sequence[str]
    tables: Sequence[Table]
    worst: Mapping[str, Sequence[WorstImage]]
    measured: Mapping[str, Measured]
    names: Sequence[str]
    ranking: str
    footer: Sequence[str]


def to_page(page: Page) -> str:
    """The whole file; everything that comes from outside, such as names of files, is escaped."""
    text = html.escape
    warnings = "".join(f"<li>{_warning(line)}</li>" for line in page.warnings)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>{text(page.title)}</h1>\n<p>{text(page.introduction)}</p>",
        f'<h2>Before you read the numbers</h2>\n<ul class="warnings">{warnings}</ul>' if warnings else "",
        *(_table(table) for table in page.tables if table.sections),
        _worst(page) if page.worst else "",
        "<h2>How it was measured</h2>\n<ul>" + "".join(f"<li>{text(line)}</li>" for line in page.footer) + "</ul>",
        "</body>\n</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _warning(line: str) -> str:
    """What kind of warning it is stands before the first colon."""
    kind, colon, rest = line.partition(":")
    return f"<b>{html.escape(kind)}</b>{colon}{html.escape(rest)}"


def _table(table: Table) -> str:
    title, caption = html.escape(table.title), html.escape(table.caption)
    above = f'<p class="soft">{caption}</p>\n' if caption else ""
    return f'<section>\n<h2>{title}</h2>\n{above}<div class="wide">{_body(table)}</div>\n</section>'


def _body(table: Table) -> str:
    """The one section of a table, whose heading would say the table's title again."""
    whole = html_sections(table, "h3")
    return whole.partition("</h3>")[2] if len(table.sections) == 1 else whole


# --- the worst images -----------------------------------------------------------------------------------------------


def _worst(page: Page) -> str:
    shown = DIGITS[page.ranking][1]
    way = "highest" if page.ranking == "lpips" else "lowest"
    explained = (
        f"For each autoencoder the images of {way} {shown}, the worst first. The first tile is the whole image with a "
        "frame; all others show what is in the frame, at the place where that autoencoder is furthest off. Pixels are "
        "enlarged, not smoothed."
    )
    parts = ["<section>\n<h2>Worst images</h2>", f'<p class="soft">{explained}</p>']
    for autoencoder, images in page.worst.items():
        parts.append(f"<h3>{html.escape(autoencoder)}</h3>")
        if not images:
            parts.append('<p class="soft">No image differs from its reconstruction.</p>')
        parts += [_figure(page, image) for image in images]
    return "\n".join([*parts, "</section>"])


def _figure(page: Page, image: WorstImage) -> str:
    name = page.names[image.index]
    tiles = [
        _tile(png(_framed(image.original, image.region)), "whole image", "", name, "tile whole"),
        _tile(png(image.region.of(image.original)), "original", "", name),
    ]
    for autoencoder, reconstruction in image.reconstructions.items():
        own = "own" if autoencoder == image.autoencoder else ""
        values = _values(page.measured[autoencoder], image.index)
        tiles.append(_tile(png(image.region.of(reconstruction)), autoencoder, values, name, label_class=own))
    return (
        f'<figure>\n<figcaption>{html.escape(name)}</figcaption>\n<div class="tiles">\n'
        + "\n".join(tiles)
        + "\n</div>\n</figure>"
    )


def _tile(data: bytes, label: str, values: str, name: str, classes: str = "tile", label_class: str = "") -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    described = html.escape(f"{label}: {name}", quote=True)
    below = (
        f'<span class="{label_class}">{html.escape(label)}</span><br><span class="soft">{html.escape(values)}</span>'
    )
    return f'<div class="{classes}"><img src="{source}" alt="{described}">{below}</div>'


def _values(measured: Measured, index: int) -> str:
    """The numbers of one image."""
    found = []
    for metric, column in measured.per_image.items():
        form, name = DIGITS[metric]
        value = float(column[index])
        found.append(f"{name} {'∞' if value == float('inf') else form.format(value)}")
    return ", ".join(found)


def _framed(original: Tensor, region: Region) -> Tensor:
    """The whole picture at the size it is shown at, with a frame around the region, black within white."""
    image = Image.fromarray(original.permute(1, 2, 0).numpy())
    scale = OVERVIEW_SIDE / original.shape[-1]
    small = _tensor(adm_crop(image, OVERVIEW_SIDE))
    for inset, grey in ((0, 255), (1, 0)):
        low = [round(place * scale) + inset for place in (region.top, region.left)]
        high = [round((place + region.side) * scale) - 1 - inset for place in (region.top, region.left)]
        small[:, (low[0], high[0]), low[1] : high[1] + 1] = grey
        small[:, low[0] : high[0] + 1, (low[1], high[1])] = grey
    return small


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(to_pixels(image).copy())


def png(image: Tensor) -> bytes:
    """uint8 [3, H, W] as a PNG file, which changes no pixel."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def side_by_side(image: WorstImage) -> bytes:
    """The crops of one of the worst images as one PNG: original, then each autoencoder in the order of the table.

    Each pixel of a small crop is shown as a square of several, and names stand above the crops.
    """
    named = {"original": image.original, **image.reconstructions}
    enlarged = -(-NARROWEST_CROP // image.region.side)
    crops = [image.region.of(each) for each in named.values()]
    crops = [crop.repeat_interleave(enlarged, dim=-1).repeat_interleave(enlarged, dim=-2) for crop in crops]
    titled = [torch.cat([_title(name, crop.shape[-1]), crop], dim=-2) for name, crop in zip(named, crops, strict=True)]
    padded = [F.pad(crop, (0, 4), value=255) for crop in titled[:-1]]
    return png(torch.cat([*padded, titled[-1]], dim=-1))


def _title(name: str, width: int) -> Tensor:
    """Black on white, uint8 [3, 16, width]; the end of a name that is too long is cut off."""
    strip = Image.new("RGB", (width, 16), "white")
    ImageDraw.Draw(strip).text((2, 2), name, fill="black")
    return torch.from_numpy(np.array(strip)).permute(2, 0, 1)

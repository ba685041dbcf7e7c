# SPDX-License-Identifier: Apache-2.0
"""Figure 2 of the paper: the cost of spatial compression in reconstruction (a), its gain in generation (b, c)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcae.benchmark.record import Value
from evaluation.figures.series import (
    FAMILY_COLOURS,
    axis_title,
    compared_models,
    compression,
    family,
    family_colours,
    has_row,
    line_over,
    reconstructions,
    resolutions,
)
from evaluation.figures.style import (
    Line,
    doubling_axis,
    draw,
    footnote,
    label_ends,
    label_points,
    log_if_positive,
    name_colours,
    new_figure,
    plain_log_ticks,
    say_not_run,
    styled,
)
from evaluation.published import Published, PublishedValue
from evaluation.tables.comparability import Marks, marks_of_records
from evaluation.tables.rows import SPACE_TO_CHANNEL, Result, stem

LETTERS_ACROSS = 80  # of a title's size, over the width of a figure
PANELS_ACROSS = 3  # of Figures 2b and 2c; more leave no room for the names of points

# --- Figure 2a ---


def _published_families(published: Published) -> list[Line]:
    """rFID at ImageNet 256 px: of SD-VAE-f8 and f64 as Figure 2a prints it, and Table 2 for the others."""
    points: dict[str, dict[int, float]] = {"SD-VAE": {}, "DC-AE": {}}
    for table in ("figure 2a", "2"):
        for value in published:
            place = value.table, value.dataset, value.resolution, value.column
            if place == (table, "ImageNet", 256, "rfid"):
                points[stem(value.autoencoder)].setdefault(value.spatial_compression, value.value)
    return [
        Line(name, FAMILY_COLOURS[name], [(f, rfid, None) for f, rfid in sorted(found.items())])
        for name, found in points.items()
    ]


def _by_channels(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Of one family: autoencoders with the most latent channels at their f, and those with fewer."""
    most: dict[int, int] = {}
    for result in results:
        most[compression(result)] = max(most.get(compression(result), 0), result.cell.latent_channels)
    return (
        [result for result in results if result.cell.latent_channels == most[compression(result)]],
        [result for result in results if result.cell.latent_channels < most[compression(result)]],
    )


def _channels(result: Result) -> str:
    return f"c{result.cell.latent_channels}"


def _rfid_panel(axis: Axes, lines: Sequence[Line], title: str, y_title: str, beside: Sequence[Line] = ()) -> None:
    """Draw a line for each family; ``beside``: points that no line joins, with their names."""
    draw(axis, [*lines, *beside])
    axis.set(title=title, xlabel="spatial compression", ylabel=y_title)
    log_if_positive(axis, [*lines, *beside])
    factors = sorted({int(x) for line in lines for x, _, _ in line.points})
    doubling_axis(axis, factors, [f"f{factor}" for factor in factors])
    label_ends(axis, lines, width=12)
    for line in beside:
        for x, y, _ in line.points:
            look = {"textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 6.5}
            axis.annotate(line.name, (x, y), (-5, 0), color=line.colour, **look)


@styled
def figure_2a(results: Sequence[Result], published: Published) -> Figure:
    """Draw reconstruction rFID over spatial compression, by family of autoencoders; the paper's numbers beside."""
    places = {dataset: found[0] for dataset, found in resolutions(results).items()}
    panels = 1 + max(1, len(places))
    columns = min(3, panels)
    figure, grid = new_figure(-(-panels // columns), columns, 2.3 * -(-panels // columns))
    axes = [axis for row in grid for axis in row]
    _rfid_panel(axes[0], _published_families(published), "paper: ImageNet 256 px", "rFID ↓")
    shown = {
        place: [
            result
            for result in reconstructions(results, *place)
            if has_row(result) and family(result) != SPACE_TO_CHANNEL
        ]
        for place in places.items()
    }
    marks = marks_of_records(result.record for here in shown.values() for result in here)
    hollow = False
    for axis, ((dataset, resolution), here) in zip(axes[1:], shown.items(), strict=False):
        lines, beside = [], []
        for name, colour in family_colours(map(family, here)).items():
            most, fewer = _by_channels([result for result in here if family(result) == name])
            lines.append(line_over("spatial_compression", most, "rfid", marks, name, colour))
            beside += [
                replace(line_over("spatial_compression", [each], "rfid", marks, _channels(each), colour), hollow=True)
                for each in fewer
            ]
        _rfid_panel(axis, lines, f"here: {dataset} {resolution} px", axis_title("rFID ↓", here, "rfid"), beside)
        hollow = hollow or bool(beside)
    for axis in axes[1 + len(places) :]:
        say_not_run(axis, "" if places else "not run")
    fewer = ["Hollow: fewer latent channels than the autoencoder that the line goes through."] if hollow else []
    footnote(figure, *fewer, *marks.notes)
    return figure


# --- Figures 2b and 2c: generation, one panel per diffusion model ---


@dataclass(frozen=True)
class Generated:
    """A diffusion model on an autoencoder's latents: FID with standard error, and the denoiser's images/s."""

    diffusion: str
    family: str
    spatial_compression: int
    patch_size: int
    tokens: int
    without_guidance: tuple[float, float | None]
    with_guidance: tuple[float, float | None] | None
    speed: float | None
    mark: str = ""

    @property
    def pairing(self) -> str:
        return f"f{self.spatial_compression} p{self.patch_size}"


def _marks(results: Sequence[Result]) -> Marks:
    return marks_of_records(result.record for result in results if result.kind in ("generation", "efficiency"))


def _notes(marks: Marks, shown: Sequence[Generated]) -> list[str]:
    """The notes on the marks of the points shown."""
    letters = {letter for each in shown for letter in each.mark.split(",")}
    return [note for note in marks.notes if note.split(":")[0] in letters]


def _measured(results: Sequence[Result], marks: Marks) -> list[Generated]:
    name = "inference_images_per_second"  # missing where a model did not fit, or its optimised form was refused
    speeds = {each.cell.identity: each.record for each in results if each.kind == "efficiency" and name in each.values}

    def speed(of: Result) -> tuple[float | None, str]:
        """Images per second, and the marks of quality and speed."""
        profiled = speeds.get(of.cell.identity)
        letters = [marks.of_record(record) for record in (of.record, profiled) if record]
        value = profiled.values[name].value if profiled else None
        return value, ",".join(filter(None, letters))

    def fid(value: Value) -> tuple[float, float | None]:
        return value.value, value.standard_error

    return [
        Generated(
            result.cell.diffusion,
            family(result),
            compression(result),
            result.cell.patch_size,
            result.cell.tokens,
            fid(result.values["fid_without_guidance"]),
            # At guidance scale 1 there is nothing to guide, and only the first is measured.
            fid(result.values["fid_with_guidance"]) if "fid_with_guidance" in result.values else None,
            *speed(result),
        )
        for result in results
        if result.kind == "generation"
    ]


def _published(published: Published, table: int, chosen: Callable[[PublishedValue], bool]) -> list[Generated]:
    found = []
    for row in filter(chosen, published.rows(table)):
        values = {value.column: value.value for value in published if value.row == row.row}
        found.append(
            Generated(
                row.diffusion,
                stem(row.autoencoder),
                row.spatial_compression,
                row.patch_size,
                row.tokens,
                (values["fid_without_guidance"], None),
                (values["fid_with_guidance"], None) if "fid_with_guidance" in values else None,
                values.get("inference_images_per_second"),
            )
        )
    return found


def _panels(
    paper: Sequence[Generated], here: Sequence[Generated], title: Callable[[Generated], str], y_titles: tuple[str, str]
) -> tuple[Figure, list[tuple[Axes, list[Generated]]]]:
    """A panel for each title that ``title`` gives, the paper's above; coloured names of the families."""
    groups: list[dict[str, list[Generated]]] = [{}, {}]
    for panels, points in zip(groups, (paper, here), strict=True):
        for each in points:
            panels.setdefault(title(each), []).append(each)
    columns = min(PANELS_ACROSS, max(1, *map(len, groups)))
    heights = [max(1, -(-len(panels) // columns)) for panels in groups]
    figure, grid = new_figure(sum(heights), columns, 2.0 * sum(heights))
    filled = []
    for rows, panels, origin, y_title in zip(
        (grid[: heights[0]], grid[heights[0] :]), groups, ("paper", "here"), y_titles, strict=True
    ):
        axes = [axis for row in rows for axis in row]
        for axis in axes[len(panels) :]:
            say_not_run(axis, "not run" if not panels and axis is axes[0] else "")
        for number, (axis, (name, points)) in enumerate(zip(axes, panels.items(), strict=False)):
            axis.set_title(textwrap.fill(f"{origin}: {name}", LETTERS_ACROSS // columns))
            if number % columns == 0:
                axis.set_ylabel(y_title)
            filled.append((axis, points))
    name_colours(figure, family_colours(each.family for each in (*paper, *here)))
    return figure, filled


def _y_titles(results: Sequence[Result]) -> tuple[str, str]:
    """The titles of the y axes of the paper's panels and of those here."""
    generated = [result for result in results if result.kind == "generation"]
    return "FID ↓", axis_title("FID ↓", generated, "fid_without_guidance")


def _with_several_patch_sizes(points: Sequence[Generated]) -> list[Generated]:
    """Only groups of one diffusion model and number of tokens that more than one patch size leads to."""
    groups: dict[tuple[str, int], set[int]] = {}
    for each in points:
        groups.setdefault((each.diffusion, each.tokens), set()).add(each.patch_size)
    return [each for each in points if len(groups[each.diffusion, each.tokens]) > 1]


def _equal_tokens_panel(axis: Axes, points: Sequence[Generated]) -> None:
    ordered = sorted(points, key=lambda each: each.spatial_compression)
    pairings = list(dict.fromkeys(each.pairing for each in ordered))
    colours = family_colours(each.family for each in ordered)
    lines = []
    for number, (name, colour) in enumerate(colours.items()):
        of_family = [each for each in ordered if each.family == name]
        for fids, guided in (("without_guidance", False), ("with_guidance", True)):
            members = [each for each in of_family if getattr(each, fids)]
            # Families side by side, so that equal values stay apart.
            where = [pairings.index(each.pairing) + 0.12 * (number - (len(colours) - 1) / 2) for each in members]
            points_of_line = [(x, *getattr(each, fids)) for x, each in zip(where, members, strict=True)]
            marks = [each.mark for each in members]
            dashes = "--" if guided else "-"
            lines.append(Line(name, colour, points_of_line, dashes=dashes, hollow=guided, marks=marks))
    draw(axis, lines)
    axis.set_xticks(range(len(pairings)), pairings)
    axis.set_xlim(-0.5, len(pairings) - 0.5)
    axis.set_ylim(0, 1.08 * max(fid for line in lines for _, fid, _ in line.points))


@styled
def figure_2b(results: Sequence[Result], published: Published) -> Figure:
    """Draw FID at equal tokens: patch size of the diffusion model against spatial compression of the autoencoder."""
    paper = _published(published, 1, lambda row: True)
    # Table 1 has no DC-AE on DiT-XL; the same cell is in Table 3.
    paper += _published(published, 3, lambda row: (row.diffusion, row.autoencoder) == ("DiT-XL", "DC-AE-f32"))
    marks = _marks(results)
    here = _with_several_patch_sizes(_measured(results, marks))
    figure, panels = _panels(paper, here, lambda each: f"{each.diffusion}, {each.tokens} tokens", _y_titles(results))
    for axis, points in panels:
        _equal_tokens_panel(axis, points)
    footnote(figure, "Filled, solid: without guidance. Hollow, dashed: with guidance.", *_notes(marks, here))
    return figure


def _shown_fid(each: Generated) -> tuple[float, float | None]:
    """FID with guidance, or without for a model that is not guided, which has a panel of its own."""
    return each.with_guidance or each.without_guidance


def _model(each: Generated) -> str:
    return each.diffusion if each.with_guidance else f"{each.diffusion}, w/o guidance"


def _speed_panel(axis: Axes, points: Sequence[Generated]) -> None:
    colours = family_colours(each.family for each in points)
    path = [each for each in points if each.pairing == "f8 p2" or each.family == "DC-AE"]
    path.sort(key=lambda each: each.speed)
    axis.plot([each.speed for each in path], [_shown_fid(each)[0] for each in path], color="#BBBBBB", linewidth=0.8)
    for name, colour in colours.items():
        members = [each for each in points if each.family == name]
        chosen = [(each.speed, *_shown_fid(each)) for each in members]
        draw(axis, [Line(name, colour, chosen, dashes="none", marks=[each.mark for each in members])])
    speeds = [each.speed for each in points]
    axis.set_xscale("log")
    spread = max(10.0, max(speeds) / min(speeds))
    axis.set_xlim(min(speeds) / spread**0.2, max(speeds) * spread**0.5)
    plain_log_ticks(axis.xaxis, at_most=4)
    axis.margins(y=0.2)
    places = [(each.speed, _shown_fid(each)[0]) for each in points]
    label_points(axis, places, [each.pairing for each in points], [colours[each.family] for each in points])


@styled
def figure_2c(results: Sequence[Result], published: Published) -> Figure:
    """Draw FID with guidance over the denoiser's throughput, a panel per diffusion model; the paper's numbers above."""
    paper = _published(published, 3, lambda row: row.autoencoder in ("SD-VAE-f8", "DC-AE-f32", "DC-AE-f64"))
    marks = _marks(results)
    compared = compared_models(results)
    here = [each for each in _measured(results, marks) if each.speed is not None and each.diffusion in compared]
    figure, panels = _panels(paper, here, _model, _y_titles(results))
    for axis, points in panels:
        _speed_panel(axis, points)
        axis.set_xlabel("images/s →")
    told = "FID with guidance, unless the title says without. images/s: inference of the denoiser alone, one step "
    told += "(paper: H100). Grey line: f8 p2 to DC-AE. Models with samples on one autoencoder alone are left out."
    footnote(figure, told, *_notes(marks, here))
    return figure

"""What a sweep found: the sentence, the curves, and the files that show them."""

import base64
import csv
import io
import json
from collections.abc import Container, Sequence
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.labels.kinds import KINDS

__all__ = [
    "AXES",
    "CLOSE",
    "COLUMNS",
    "NO_AMOUNT",
    "SCORES",
    "UNITS",
    "clean_level",
    "curves",
    "figure",
    "panels",
    "save",
    "shown_amount",
    "summary",
    "x_label",
]

Table = Sequence[dict[str, Any]]
Point = tuple[float | None, float, float, int]

SCORES = ("dice", "iou", "auc", "threshold", "best_dice", "rank", "figure_of_merit")
COLUMNS = ("kind", "amount", "seed", *SCORES, "seconds", "status", "error")
CLOSE = 0.02
"""A loss of Dice that hardly matters."""

AXES = {name: kind.axis for name, kind in KINDS.items() if kind.axis}
"""The kinds of noise that a sweep varies, in the order of the report, and how they are told."""

UNITS = {name: (axis.label, axis.unit) for name, axis in AXES.items()}
"""What the amount of each kind of noise says, and its unit."""

NO_AMOUNT = [name for name in AXES if KINDS[name].amount is None]

_COLOURS = "tableau-colorblind10"  # of matplotlib; told apart by colour-blind eyes


def shown_amount(kind: str, amount: float | None) -> float:
    """Where an amount stands on the axis: shares in percent, moves in pixels, others by number."""
    if amount is None:
        return NO_AMOUNT.index(kind)
    return 100 * amount if UNITS[kind][1] == "%" else amount


def clean_level(table: Table, score: str = "dice") -> tuple[float, float] | None:
    """Mean and standard deviation of a score over the clean runs; None if there is none."""
    values = _values(table, "clean", None, score)
    return (float(np.mean(values)), float(np.std(values))) if values else None


def curves(table: Table, score: str = "dice") -> dict[str, list[Point]]:
    """Mean and spread of a score for each kind and amount.

    Parameters
    ----------
    table : list of dict
        Rows of a sweep.
    score : str, optional
        A column of the table.

    Returns
    -------
    dict of {str: list of (amount, mean, standard deviation, number of seeds)}
        By kind of noise, amounts in ascending order; the amount is None where the kind has none.
    """
    found = {}
    for kind in UNITS:
        amounts = {row["amount"] for row in table if row["kind"] == kind}
        points = []
        for amount in sorted(amounts, key=lambda value: value or 0):
            values = _values(table, kind, amount, score)
            if values:
                points.append((amount, float(np.mean(values)), float(np.std(values)), len(values)))
        if points:
            found[kind] = points
    return found


def _values(table, kind, amount, score):
    return [
        row[score]
        for row in table
        if row["kind"] == kind and row["amount"] == amount and row[score] is not None
    ]


# --------------------------------------------------------------------------- sentences


def summary(table: Table) -> str:
    """How good the annotation must be, in plain sentences.

    Parameters
    ----------
    table : list of dict
        Rows of a sweep.

    Returns
    -------
    str
    """
    clean = clean_level(table)
    if clean is None:
        return "No network has been trained on the clean labels yet."
    found, level = curves(table), clean[0]
    parts = [f"Full annotation reaches a Dice of {level:.2f}."]
    for kind, axis in AXES.items():
        parts += _finding(axis, found.get(kind, []), level)
    failed = [row for row in table if row["status"] == "failed"]
    if failed:
        verb = "is" if len(failed) == 1 else "are"
        reason = str(failed[0]["error"] or "").rstrip(".")
        told = f"{len(failed)} of {len(table)} runs failed and {verb} left out"
        parts.append(f"{told} ({reason})." if reason else f"{told}.")
    return " ".join(parts)


def _finding(axis, points, level):
    """What the amounts of one kind of noise cost, in a sentence; none without a point."""
    if not points:
        return []
    if axis.limit is None:
        costs = ((_amount(axis, point[0]), _loss(level - point[1])) for point in points)
        return [f"{axis.subject}: {', '.join(' '.join(cost).lstrip() for cost in costs)}."]
    mildest_first = sorted(points, key=lambda point: abs(point[0] - axis.without))
    good = list(takewhile(lambda point: point[1] >= level - CLOSE, mildest_first))
    if not good:
        amount, mean = mildest_first[0][:2]
        return [axis.beyond.format(amount=_amount(axis, amount), loss=f"{level - mean:.2f}")]
    last = "least" if axis.without > good[-1][0] else "most"
    tried = f", the {last} tried," if len(good) == len(points) else ""
    return [axis.limit.format(amount=_amount(axis, good[-1][0]), tried=tried, close=CLOSE)]


def _amount(axis, amount):
    if amount is None:
        return ""
    return f"{100 * amount:.0f} %" if axis.unit == "%" else f"{amount:g} {axis.unit}".rstrip()


def _loss(loss):
    if abs(loss) < 0.005:
        return "costs nothing"
    return f"costs {loss:.2f}" if loss > 0 else f"gains {-loss:.2f}"


# --------------------------------------------------------------------------- pictures


def figure(table: Table, score: str = "dice") -> Any:
    """Curves of a score against the amount of noise, with the clean level as a band.

    Parameters
    ----------
    table : list of dict
        Rows of a sweep.
    score : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        One panel per family of noise; points are single runs, bars the spread over the seeds.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    found, clean = curves(table, score), clean_level(table, score)
    groups = panels(found)
    width = max(len(groups), 1)
    drawing = Figure(figsize=(3.2 * width, 3.2), layout="constrained")
    with style.context(_COLOURS):
        axes = drawing.subplots(1, width, sharey=True, squeeze=False)[0]
    for axis, kinds in zip(axes, groups):
        if clean is not None:
            axis.axhspan(clean[0] - CLOSE, clean[0] + CLOSE, color="0.9")
            axis.axhline(clean[0], color="0.5", linewidth=1)
        for kind in kinds:
            _draw_curve(axis, kind, found[kind], table, score)
        axis.set_xlabel(x_label(kinds))
        if kinds[0] in NO_AMOUNT:
            axis.set_xticks(range(len(NO_AMOUNT)), [UNITS[kind][0] for kind in NO_AMOUNT])
            axis.set_xlim(-0.6, len(NO_AMOUNT) - 0.4)
        else:
            axis.set_xticks(
                sorted({shown_amount(kind, point[0]) for kind in kinds for point in found[kind]})
            )
            if len(kinds) > 1:
                axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel({"dice": "Dice", "iou": "IoU", "auc": "AUC"}.get(score, score))
    return drawing


def panels(kinds: Container[str]) -> list[list[str]]:
    """Kinds of noise that share a panel: those of one family, and those without an amount.

    Parameters
    ----------
    kinds : container of str

    Returns
    -------
    list of list of str
        Without empty ones.
    """
    groups = {}
    for kind, axis in sorted(AXES.items(), key=lambda item: item[0] in NO_AMOUNT):
        if kind in kinds:
            group = "" if kind in NO_AMOUNT else axis.family or kind
            groups.setdefault(group, []).append(kind)
    return list(groups.values())


def x_label(kinds: Sequence[str]) -> str:
    """What the amounts of one panel are, with their unit."""
    text, unit = UNITS[kinds[0]]
    text = AXES[kinds[0]].family if len(kinds) > 1 else text
    return f"{text} [{unit}]" if unit else ""


def _draw_curve(axis, kind, points, table, score):
    amounts, means, spreads, _ = zip(*points)
    place = [shown_amount(kind, amount) for amount in amounts]
    bars = axis.errorbar(place, means, spreads, marker="o", capsize=3, label=kind)
    for x, amount in zip(place, amounts):
        values = _values(table, kind, amount, score)
        axis.scatter([x] * len(values), values, s=8, alpha=0.5, color=bars[0].get_color())


def _image(drawing, kind):
    buffer = io.BytesIO()
    drawing.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


def _picture(title, array):
    """A small PNG of an image or of class numbers."""
    from matplotlib import style
    from matplotlib.colors import to_rgb
    from matplotlib.image import imsave
    from skimage.color import label2rgb

    array = np.asarray(array)
    if title == "image":
        low, high = np.percentile(array, [0.5, 99.5])
    else:
        low, high = 0, 1
        colours = style.library[_COLOURS]["axes.prop_cycle"].by_key()["color"]
        if array.max() > 1:
            array = label2rgb(array, bg_label=0, colors=[to_rgb(colour) for colour in colours])
    buffer = io.BytesIO()
    imsave(buffer, np.clip(array, low, high), vmin=low, vmax=high, cmap="gray", format="png")
    return buffer.getvalue()


# --------------------------------------------------------------------------- files


def save(
    folder: str | Path,
    table: Table,
    record: dict[str, Any],
    pictures: dict[str, np.ndarray],
) -> Path:
    """Write a sweep as CSV, PNG, SVG, JSON and one HTML page that holds all of it.

    Parameters
    ----------
    folder : path
        Made if need be; files of these names in it are replaced.
    table : list of dict
    record : dict
    pictures : dict of {str: array}
        Planes by title: "image", and class numbers for the others.

    Returns
    -------
    pathlib.Path
        The HTML page.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "sweep.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    drawing = figure(table)
    png, svg = _image(drawing, "png"), _image(drawing, "svg")
    (folder / "sweep.png").write_bytes(png)
    (folder / "sweep.svg").write_bytes(svg)
    whole = {**record, "summary": summary(table), "table": table}
    (folder / "sweep.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    page = folder / "sweep.html"
    page.write_text(_page(table, record, pictures, png), encoding="utf-8")
    return page


def _page(table, record, pictures, png):
    from jinja2 import Environment

    template = files("napari_metastructure").joinpath("report.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            summary=summary(table),
            curve=_base64(png),
            pictures={name: _base64(_picture(name, p)) for name, p in pictures.items()},
            columns=COLUMNS,
            rows=[[_cell(row[name]) for name in COLUMNS] for row in table],
            record=json.dumps(record, indent=1),
        )
    )


def _base64(data):
    return base64.b64encode(data).decode()


def _cell(value):
    if value is None:
        return ""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

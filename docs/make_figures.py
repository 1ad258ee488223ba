"""Draws the pictures of docs/meta-structure.md from simulated cells: python docs/make_figures.py

With --all also those that the real window shows: docs/make_dock_pictures.py and
docs/make_ten_minutes.py. These need a display; without one, put before it:
xvfb-run -a -s "-screen 0 1600x1000x24"
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from napari.utils.colormaps import AVAILABLE_COLORMAPS
from PIL import Image, ImageDraw, ImageFont

from napari_metastructure import corrupt
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.plugin import samples

FOLDER = Path(__file__).parent / "images"
RADIUS = 10
SIDE, GAP, LEFT, TOP = 160, 6, 84, 26
CORRUPTIONS = {
    "clean": {"kind": "sample", "fraction": 1.0},
    "10 % sampled": {"kind": "sample", "fraction": 0.1, "seed": 1},
    "40 % flipped": {"kind": "flip", "ratio": 0.4, "seed": 1},
    "dilated by 2 px": {"kind": "dilate", "radius": 2},
    "skeleton": {"kind": "skeletonize"},
    "random": {"kind": "random", "seed": 1},
}
FONT, SMALL = ImageFont.load_default(13), ImageFont.load_default(12)


def main():
    FOLDER.mkdir(exist_ok=True)
    _, clean = samples.simulate_fields(samples.simulate_er, 8, seed=3)
    noisy = {name: corrupt(clean, spec) for name, spec in CORRUPTIONS.items()}
    save("densities", densities(clean, noisy))
    save("matrices", matrices(clean, noisy))
    if "--all" in sys.argv:
        for script in ("make_dock_pictures.py", "make_ten_minutes.py"):
            subprocess.run([sys.executable, Path(__file__).with_name(script)], check=True)


def densities(clean, noisy):
    """Labels, densities and residuals, one column per corruption."""
    sheet, draw = blank(3 * (SIDE + GAP))
    field, corner = most_varied(clean)
    for row, text in enumerate(("label", "density,\nits own\nrange", "residual\n-5 to 5\nsigma")):
        draw.text((4, TOP + row * (SIDE + GAP) + 4), text, "black", SMALL)
    for column, (name, labels) in enumerate(noisy.items()):
        matrix = matrix_of(CORRUPTIONS[name], clean, labels)
        share = density.observed(labels[field], RADIUS, classes=[1])[0]
        off = density.residual(labels[field], clean[field], matrix, RADIUS, in_sigma=True)[1]
        panels = (
            coloured(labels[field], "gray"),
            coloured(stretched(share), "viridis"),
            coloured(off, "PiYG", 5),
        )
        left = LEFT + column * (SIDE + GAP)
        draw.text((left, 6), name, "black", FONT)
        for row, panel in enumerate(panels):
            sheet.paste(cropped(panel, corner), (left, TOP + row * (SIDE + GAP)))
    return sheet


def matrices(clean, noisy):
    """Counted transition matrices with verdicts, one column per corruption."""
    sheet, draw = blank(SIDE + 130)
    draw.text((4, TOP + 4), "row: true\ncolumn:\nnoisy", "black", SMALL)
    draw.text((4, TOP + SIDE + 8), "verdict", "black", SMALL)
    for column, (name, labels) in enumerate(noisy.items()):
        left = LEFT + column * (SIDE + GAP)
        draw.text((left, 6), name, "black", FONT)
        draw_matrix(draw, left, transition.estimate(clean, labels))
        inside = share_inside(clean, labels, CORRUPTIONS[name])
        lines = textwrap.wrap(str(transition.judge(clean, labels)), 24)
        lines += ["", f"within 3 sigma: {100 * inside:.1f} %"]
        lines += [f"kept: {density.kept(clean, labels):.3f}"]
        draw.text((left, TOP + SIDE + 8), "\n".join(lines), "black", SMALL)
    return sheet


def matrix_of(spec, clean, noisy):
    """In closed form where there is one, else by counting."""
    try:
        return transition.of(NoiseSpec(**spec), 2, fractions=[1 - clean.mean(), clean.mean()])
    except ValueError:
        return transition.estimate(clean, noisy)


def share_inside(clean, noisy, spec):
    matrix = matrix_of(spec, clean, noisy)
    return np.mean(np.abs(density.residual(noisy, clean, matrix, RADIUS, in_sigma=True)) < 3)


def draw_matrix(draw, left, matrix):
    cell = SIDE // 2
    for (row, column), value in np.ndenumerate(matrix):
        x, y = left + column * cell, TOP + row * cell
        colour = tuple(coloured(np.array([[value]]), "viridis")[0, 0].tolist())
        draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour)
        text = "black" if value > 0.6 else "white"
        draw.text((x + cell / 2, y + cell / 2), f"{value:.3f}", text, FONT, anchor="mm")


def blank(height):
    size = LEFT + len(CORRUPTIONS) * (SIDE + GAP), TOP + height
    sheet = Image.new("RGB", size, "white")
    return sheet, ImageDraw.Draw(sheet)


def coloured(values, name, limit=None):
    """RGB of values from 0 to 1, or from -limit to limit."""
    values = np.asarray(values, float)
    values = values if limit is None else (values / limit + 1) / 2
    rgb = AVAILABLE_COLORMAPS[name].map(values.clip(0, 1).ravel())[:, :3]
    return (255 * rgb).round().astype(np.uint8).reshape(*values.shape, 3)


def stretched(values):
    """To 0 and 1; a map without contrast stays flat."""
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-6)


def most_varied(clean):
    """Field and corner of the crop whose densities differ most."""
    share = density.observed(clean, RADIUS, classes=[1])[0]
    corners = [(y, x) for y in range(0, 97, 32) for x in range(0, 97, 32)]
    places = [(field, corner) for field in range(len(clean)) for corner in corners]
    return max(places, key=lambda place: crop(share[place[0]], place[1]).std())


def crop(panel, corner):
    return panel[corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE]


def cropped(panel, corner):
    return Image.fromarray(crop(panel, corner).copy())


def save(name, sheet):
    """As a small PNG of 128 colours."""
    sheet.quantize(128, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()

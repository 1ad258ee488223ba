"""Draws the picture of docs/centre-lines.md from simulated cells: python docs/make_centre_lines.py

It trains two networks, some minutes each.
"""

from make_figures import FONT, GAP, SIDE, TOP, coloured, save, stretched
from PIL import Image, ImageDraw

import napari_metastructure as nms
from napari_metastructure.labels.simulation import (
    simulate_er,
    simulate_fields,
    simulate_mitochondria,
)

LEFT, FIELDS = 110, 8
COLUMNS = ("image", "lines", "learnt from the lines", "truth")
SETTINGS = {"channels": 8, "seed": 0, "device": "cpu"}


def main():
    sheet = Image.new("RGB", (LEFT + len(COLUMNS) * (SIDE + GAP), TOP + 2 * (SIDE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        draw.text((LEFT + column * (SIDE + GAP), 6), name, "black", FONT)
    for row, (name, simulate) in enumerate(
        {"ER": simulate_er, "mitochondria": simulate_mitochondria}.items()
    ):
        images, masks = simulate_fields(simulate, FIELDS + 4, seed=1)
        lines = nms.corrupt(masks, "skeletonize")
        job = nms.train(images[:FIELDS], lines[:FIELDS], SETTINGS, noise={"kind": "skeletonize"})
        found = job.run().model.segment(images[FIELDS:])
        scores = [nms.metrics.evaluate(masks[FIELDS:], m)["dice"] for m in (lines[FIELDS:], found)]
        print(name, "Dice of the lines {:.3f}, of what is learnt from them {:.3f}".format(*scores))
        shown = stretched(images[FIELDS]), lines[FIELDS], found[0], masks[FIELDS]
        draw.text((4, TOP + row * (SIDE + GAP) + 4), name, "black", FONT)
        for column, panel in enumerate(shown):
            corner = LEFT + column * (SIDE + GAP), TOP + row * (SIDE + GAP)
            middle = panel[48 : 48 + SIDE, 48 : 48 + SIDE]
            sheet.paste(Image.fromarray(coloured(middle, "gray")), corner)
    save("centre-lines", sheet)


if __name__ == "__main__":
    main()

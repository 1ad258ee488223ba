"""What the extraction of meta-structure costs, against the skeleton alone.

Run: python benchmarks/extraction.py. The bar: at most 1.3 times `skimage.morphology.skeletonize`
on a 2048 x 2048 mask.
"""

from _timing import milliseconds, table, tubes
from skimage.morphology import skeletonize

from napari_metastructure.labels import extraction

mask = tubes()

if __name__ == "__main__":
    base = extract = float("inf")
    for _ in range(8):  # in turns, so that a busy machine slows both alike
        base = min(base, milliseconds(lambda: skeletonize(mask), 1))
        extract = min(extract, milliseconds(lambda: extraction.extract(mask, seed=0), 1))
    table("2048 x 2048, uint8", "skeletonize", base, {"extract": extract})

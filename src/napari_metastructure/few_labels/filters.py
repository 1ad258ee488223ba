"""Masks that need no training: views of an image, each cut by a threshold, as start labels.

The bank holds every combination of eight views (raw, smoothed, flattened, locally normalised ...)
and four thresholds, ridges of several widths, local thresholds, three votes of such masks, and two
that go by where the image changes much.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.intensity import unit_range

__all__ = [
    "BANK",
    "GROUPS",
    "PLAIN",
    "TEXTURE",
    "WITHIN_HALOS",
    "Views",
    "above_threshold",
    "describe",
    "filter_mask",
    "locally_normalised",
    "off_background",
    "otsu_classes",
    "shrunk",
    "unexplained",
]

TEXTURE, WITHIN_HALOS = "texture", "within_halos"
"""Names of the masks that are made for what `optics` knows, and are ranked only there."""

_MOST_PIXELS = 2**18  # that a threshold is found on; larger images give evenly spread ones
_BINS = 128  # of multi-Otsu's histogram
_TEXTURE, _BACKGROUND = 3, 40  # pixels: Gaussians
_SMALL_HOLE = 1000  # pixels
_LI_TOLERANCE = 1e-4  # of the range; by default less than float32 resolves, which may never end


class Views:
    """Views of one image, structures bright, and the masks of the bank, each made once.

    Parameters
    ----------
    image : array of float, [0, 1]
        Plane (y, x) or volume (z, y, x), structures bright.
    """

    def __init__(self, image: NDArray):
        self.image = image
        self._made: dict[Any, NDArray] = {}

    def view(self, name: str) -> NDArray:
        """A view of `VIEWS`, by name."""
        return self._once(name, lambda: _VIEWS[name][0](self))

    def mask(self, name: str) -> NDArray:
        """A mask of `BANK`, by name: bool."""
        return self._once(("mask", name), lambda: _MASKS[name](self).astype(bool))

    def smooth(self, sigma: float) -> NDArray:
        """The image after a Gaussian of so many pixels."""
        return self._once(("smooth", sigma), lambda: _smooth(self.image, sigma))

    def ridges(self, sigma: float, even: bool = False) -> NDArray:
        """Sato's filter of one width, of the image or (`even`) of its square root."""

        def make() -> NDArray:
            from skimage.filters import sato

            image = np.sqrt(self.image) if even else self.image
            return sato(image, sigmas=[sigma], black_ridges=False)

        return self._once(("ridges", sigma, even), make)

    def _once(self, key: Any, make: Callable[[], NDArray]) -> NDArray:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _smooth(image: NDArray, sigma: float) -> NDArray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, sigma, truncate=4 if sigma < 20 else 2.5)


def locally_normalised(image: NDArray, sigma: float = 20) -> NDArray:
    """The image minus its local mean, over its local deviation (Gaussians of `sigma` pixels)."""
    difference = image - _smooth(image, sigma)
    deviation = np.sqrt(np.maximum(_smooth(difference * difference, sigma), 0))
    return difference / (deviation + 0.1 * deviation.mean() + 1e-6)


def _detail(views: Views) -> NDArray:
    """What stands out, dim or bright, from its neighbourhood."""
    image = np.sqrt(views.image)
    return _smooth(image, 1) - _smooth(image, 8)


_VIEWS: dict[str, tuple[Callable[[Views], NDArray], str]] = {
    "raw": (lambda v: v.image, "the image"),
    "smooth": (lambda v: v.smooth(2), "the smoothed image"),
    "flat": (lambda v: v.image - v.smooth(20), "the image minus its background (20 px)"),
    "flat60": (lambda v: v.image - v.smooth(60), "the image minus its background (60 px)"),
    "even": (lambda v: locally_normalised(v.image), "the locally normalised image"),
    "smooth_even": (
        lambda v: locally_normalised(v.smooth(2)),
        "the smoothed, locally normalised image",
    ),
    "detail": (_detail, "what stands out from 8 px around it"),
    "spots": (lambda v: v.smooth(1) - v.smooth(3), "what stands out from 3 px around it"),
}
_THRESHOLDS = {
    "otsu": "Otsu's threshold",
    "li": "Li's threshold",
    "triangle": "triangle threshold",
    "top": "highest of three classes",
}
# A little above 1, as scikit-image takes a hundred deviations of the Gaussian at 1 and below.
_RIDGES = {
    "sato": ((1.01, 2, 3), False),
    "sato_2_4": ((2, 3, 4), False),
    "sato_3_5": ((3, 4, 5), False),
    "sato_5_8": ((5, 6.5, 8), False),
    "sato_even": ((1.01, 2, 3), True),
}


def above_threshold(image: NDArray, threshold: str) -> NDArray:
    """What lies above a threshold by its name, "otsu", "li", "triangle" or "top": bool."""
    from skimage import filters

    low = float(image.min())
    if low == float(image.max()):
        return np.zeros(image.shape, bool)
    image = image - low
    pixels = _sampled(image)
    try:
        if threshold == "top":
            return image > filters.threshold_multiotsu(pixels, nbins=_BINS)[-1]
        if threshold == "li":
            return image > filters.threshold_li(pixels, tolerance=_LI_TOLERANCE * pixels.max())
        return image > getattr(filters, f"threshold_{threshold}")(pixels)
    except ValueError:  # fewer values than classes
        return image > filters.threshold_otsu(pixels)


def _sampled(image: NDArray) -> NDArray:
    return image.ravel()[:: -(-image.size // _MOST_PIXELS)]


def _of_view(views: Views, view: str, threshold: str) -> NDArray:
    return above_threshold(views.view(view), threshold)


def _of_ridges(views: Views, sigmas: tuple[float, ...], even: bool, threshold: str) -> NDArray:
    return above_threshold(
        np.max([views.ridges(sigma, even) for sigma in sigmas], axis=0), threshold
    )


def _local(views: Views, block: int) -> NDArray:
    """Brighter than the mean of a block of pixels, by half a deviation."""
    from skimage.filters import threshold_local

    block = min(block, min(views.image.shape) // 2 * 2 + 1)
    image = views.smooth(1)
    return image > threshold_local(image, block) + 0.5 * image.std()


def off_background(image: NDArray) -> tuple[NDArray, NDArray]:
    """Where the image changes much, with its holes, and how far each pixel, after a Gaussian of
    1 pixel, lies above the background outside of that (40 pixels around), in its deviations.
    """
    from scipy.ndimage import binary_fill_holes

    inside = binary_fill_holes(_textured(image))
    image, outside = _smooth(image, 1), ~inside
    pixels = outside if outside.any() else inside
    known, few = _smooth(outside.astype(np.float32), _BACKGROUND), 1e-3
    median = float(np.median(image[pixels]))  # counts deep inside, where no background is near
    off = image - (_smooth(image * outside, _BACKGROUND) + few * median) / (known + few)
    return inside, (off - np.median(off[pixels])) / max(float(off[pixels].std()), 1e-12)


def shrunk(mask: NDArray) -> NDArray:
    """A mask of what changes much, by as much as the averaging has widened it."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask, iterations=_TEXTURE, border_value=1)


def _textured(image: NDArray) -> NDArray:
    """Where the image changes much: Li's threshold of its gradient, averaged over 3 px; bool."""
    from scipy.ndimage import gaussian_gradient_magnitude

    return above_threshold(_smooth(gaussian_gradient_magnitude(image, 1), _TEXTURE), "li")


def _by_section(make: Callable[[NDArray], NDArray]) -> Callable[[Views], NDArray]:
    """A recipe whose holes are those of sections: a body at the end of a volume is open there."""

    def made(views: Views) -> NDArray:
        image = views.image
        return make(image) if image.ndim == 2 else np.stack([make(section) for section in image])

    return made


@_by_section
def _texture(image: NDArray) -> NDArray:
    """What is textured, without small holes."""
    return shrunk(_without_small_holes(_textured(image)))


@_by_section
def _within_halos(image: NDArray) -> NDArray:
    """Of what changes much, with its holes, what is brighter than the background."""
    from scipy.ndimage import binary_opening

    inside, off = off_background(image)
    return binary_opening(inside & (off > 0))


def _without_small_holes(mask: NDArray) -> NDArray:
    from scipy.ndimage import binary_fill_holes, label

    holes, _ = label(binary_fill_holes(mask) & ~mask)
    return mask | ((holes > 0) & (np.bincount(holes.ravel())[holes] <= _SMALL_HOLE))


def _vote(views: Views, names: tuple[str, ...]) -> NDArray:
    """What more than half of the masks hold."""
    return 2 * np.sum([views.mask(name) for name in names], axis=0) > len(names)


_VOTES = {
    "vote_clear": ("otsu", "li", "flat_li"),
    "vote_ridges": ("li", "sato_even", "detail_li"),
    "vote_membranes": ("smooth_top", "sato_3_5"),
}


def _recipes() -> Iterator[tuple[str, Callable[[Views], NDArray], str]]:
    """Every mask: its name, how it is made of the views, and what it is in words."""
    for view, (_, words) in _VIEWS.items():
        for threshold, title in _THRESHOLDS.items():
            name = threshold if view == "raw" else f"{view}_{threshold}"
            make = partial(_of_view, view=view, threshold=threshold)
            yield name, make, f"{title} of {words}"
    for kind, (sigmas, even) in _RIDGES.items():
        for threshold, suffix in (("otsu", ""), ("li", "_li")):
            make = partial(_of_ridges, sigmas=sigmas, even=even, threshold=threshold)
            words = f"{_THRESHOLDS[threshold]} of ridges of {sigmas[0]:.0f} to {sigmas[-1]} px"
            yield f"{kind}{suffix}", make, words + (", dim and bright alike" if even else "")
    for name, block in (("local", 51), ("local_15", 15)):
        yield name, partial(_local, block=block), f"brighter than the mean of {block} px around it"
    yield TEXTURE, _texture, "where the image changes much"
    yield WITHIN_HALOS, _within_halos, "what halos of the other brightness surround"
    for name, names in _VOTES.items():
        words = ("both of " if len(names) == 2 else "two of ") + ", ".join(names)
        yield name, partial(_vote, names=names), words


_MASKS = {name: make for name, make, _ in _recipes()}
_DESCRIPTIONS = {name: words for name, _, words in _recipes()}
BANK = tuple(_MASKS)
"""Names of all masks."""
PLAIN = ("otsu", "li", "triangle", "sato", "local")
"""Names of those that are filters of their own right, widely used."""
_SLOWER = ("flat", "even", "smooth_even", "local")
_SLOWEST = ("sato", "vote")
GROUPS = (
    tuple(name for name in BANK if not name.startswith(_SLOWER + _SLOWEST)),
    tuple(name for name in BANK if name.startswith(_SLOWER)),
    tuple(name for name in BANK if name.startswith(_SLOWEST)),
)
"""The same names, the quickest ones first."""


def describe(name: str) -> str:
    """What a mask of the bank is, in a few words.

    Examples
    --------
    >>> describe("flat_li")
    "Li's threshold of the image minus its background (20 px)"
    """
    return _DESCRIPTIONS[name]


def filter_mask(image: ArrayLike, name: str, polarity: str = "bright") -> NDArray[np.uint8]:
    """Mask of one plane (or volume) by a classical filter, as a start or for comparison.

    Parameters
    ----------
    image : array, (y, x) or (z, y, x)
        Any real type.
    name : str
        One of `BANK`. Thresholds "otsu", "li" (minimum cross entropy), "triangle" and "top" (the
        highest of three classes, multi-Otsu) of the image, or with a view in front:
        "smooth_otsu" (Gaussian of 2 pixels), "flat_otsu" and "flat60_otsu" (minus a Gaussian of
        20 or 60), "even_otsu" (locally normalised), "smooth_even_otsu", "detail_otsu" (difference
        of Gaussians of 1 and 8), "spots_otsu" (of 1 and 3). Ridges (Sato), cut by Otsu or Li:
        "sato" (widths of 1 to 3 pixels), "sato_2_4", "sato_3_5", "sato_5_8", "sato_even" (of the
        square root, for dim ridges beside bright ones), "sato_li" ... "local" and "local_15":
        above the mean of 51 or 15 pixels by half a deviation. "texture": where the gradient,
        averaged over 3 pixels, is large, by Li's threshold; of either polarity. "within_halos":
        what is brighter (or darker) than the background there, without its halos. "vote_clear",
        "vote_ridges", "vote_membranes": what most of two or three of these hold.
    polarity : {"bright", "dark"}
        Whether the structures are brighter or darker than their surroundings.

    Returns
    -------
    array of uint8
        0 and 1; all 0 for a constant image.

    Raises
    ------
    ValueError
        If there is no such filter, or the image holds NaN or infinity.
    """
    if name not in _MASKS:
        raise ValueError(f"There is no filter {name!r}; there are: {', '.join(BANK)}.")
    scaled = unit_range(image, polarity)
    if scaled is None:
        return np.zeros(np.shape(image), np.uint8)
    return Views(scaled).mask(name).astype(np.uint8)


def otsu_classes(image: NDArray) -> tuple[float, float]:
    """Share of the pixels above Otsu's threshold, and of the variance that both classes explain.

    A single Gaussian has 0.64 of its variance explained, two values all of it (Otsu 1979).

    Parameters
    ----------
    image : array of float
    """
    mask = above_threshold(image, "otsu")
    share = float(mask.mean())
    if not 0 < share < 1:
        return share, 0.0
    between = share * (1 - share) * float(image[mask].mean() - image[~mask].mean()) ** 2
    return share, between / float(image.var())


def unexplained(image: NDArray, classes: int) -> float:
    """Share of the variance that is left within the classes of multi-Otsu's thresholds.

    Liao, Chen and Chung (2001), "A fast algorithm for multilevel thresholding".

    Parameters
    ----------
    image : array of float
    classes : int
        2 or more.

    Returns
    -------
    float
        0 to 1; 1 if there are fewer values than classes.
    """
    from skimage.filters import threshold_multiotsu

    pixels = _sampled(image)
    try:
        thresholds = threshold_multiotsu(pixels, classes, nbins=_BINS)
    except ValueError:
        return 1.0
    of_class = np.digitize(pixels, thresholds)
    counts = np.bincount(of_class, minlength=classes)
    means = np.bincount(of_class, pixels, classes) / np.maximum(counts, 1)
    return float(np.mean((pixels - means[of_class]) ** 2) / pixels.var())

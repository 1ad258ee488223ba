"""Masks that need no training: classical filters and thresholds, as start labels."""

import numpy as np

from napari_metastructure.arrays.intensity import unit_range

__all__ = ["FILTERS", "INTENSITY", "filter_mask", "vote_filters"]


def _by(threshold, view=None, **options):
    """A filter: a threshold of scikit-image, by name, on a view of the image."""

    def mask(image):
        from skimage import filters

        image = view(image) if view else image
        low = float(image.min())
        if low == float(image.max()):
            return np.zeros(image.shape, bool)
        return image - low > np.max(
            getattr(filters, f"threshold_{threshold}")(image - low, **options)
        )

    return mask


def _smooth(image, sigma=2):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, sigma)


def _flat(image, width=20):
    """What stands out from its surroundings."""
    return image - _smooth(image, width)


def _ridges(image, sigmas=(1, 2, 3)):
    from skimage.filters import sato

    return sato(image, sigmas=sigmas, black_ridges=False)


def _broad_ridges(image):
    return _ridges(image, (3, 4, 5))


def _even_ridges(image):
    """Ridges of dim and bright structures alike."""
    return _ridges(np.sqrt(image))


def _even_detail(image):
    """What stands out, dim or bright, from its neighbourhood."""
    image = np.sqrt(image)
    return _smooth(image, 1) - _smooth(image, 8)


def _local(image):
    from skimage.filters import threshold_local

    block = min(51, min(image.shape) // 2 * 2 + 1)
    image = _smooth(image, 1)
    return image > threshold_local(image, block) + 0.5 * image.std()


FILTERS = {
    "otsu": _by("otsu"),
    "li": _by("li"),
    "triangle": _by("triangle"),
    "local": _local,
    "sato": _by("otsu", _ridges),
    "flat_li": _by("li", _flat),
    "even_sato": _by("otsu", _even_ridges),
    "even_detail": _by("li", _even_detail),
    "top": _by("multiotsu", _smooth, nbins=128),
    "broad_sato": _by("otsu", _broad_ridges),
}
INTENSITY = ("otsu", "li", "flat_li")
_BRIGHT_RIDGES = ("li", "even_sato", "even_detail")
_SMOOTH_BRIGHT_RIDGES = ("top", "broad_sato")
_CLEAR = 0.78


def filter_mask(image, name, polarity="bright"):
    """Mask of one plane (or volume) by a classical filter, as a start or for comparison.

    Parameters
    ----------
    image : array, (y, x) or (z, y, x)
        Any real type.
    name : str
        Threshold of the image: "otsu", "li" (minimum cross entropy), "triangle", "local" (mean of
        51 pixels and half a deviation). "sato": Otsu of the Sato ridge filter of 1 to 3 pixels.
        "flat_li": Li of the image minus its Gaussian of 20 pixels. Of the square root of the
        range, for dim structures beside bright ones, "even_sato": Otsu of the ridges;
        "even_detail": Li of the difference of Gaussians of 1 and 8 pixels.
        For noisy images with no clear gap between object and background, "top": the brightest of
        three classes (multi-Otsu) after a Gaussian of 2 pixels; "broad_sato": Otsu of ridges of
        3 to 5 pixels.
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
    if name not in FILTERS:
        raise ValueError(f"There is no filter {name!r}; there are: {', '.join(FILTERS)}.")
    values = unit_range(image, polarity)
    if values is None:
        return np.zeros(np.shape(image), np.uint8)
    return FILTERS[name](values).astype(np.uint8)


def vote_filters(images, polarity="bright"):
    """Filters whose majority makes the start label for an image set.

    What decides is how clear the gap between object and background is: the share of the
    variance that Otsu's two classes explain (Otsu 1979; 0.64 for a single Gaussian, 1 for two
    values), its median over the images. Above 0.78, as with nuclei: the majority of Otsu's and
    Li's threshold and Li's threshold after the surroundings are taken off. Below, where intensity
    alone does not tell: what is two of bright, a ridge, and brighter than its neighbourhood. Where
    Otsu's object takes more than a third of the pixels, too, as in electron microscopy: what is
    both bright and a ridge after smoothing.

    Parameters
    ----------
    images : sequence of arrays
    polarity : {"bright", "dark"}

    Returns
    -------
    tuple of str
        Names for `filter_mask`.
    """
    shares, clarity = [], []
    for image in images:
        image = unit_range(image, polarity)
        if image is None:
            continue
        mask = FILTERS["otsu"](image)
        share = mask.mean()
        between = share * (1 - share) * (image[mask].mean() - image[~mask].mean()) ** 2
        shares.append(share)
        clarity.append(between / image.var())
    if not shares or np.median(clarity) > _CLEAR:
        return INTENSITY
    return _SMOOTH_BRIGHT_RIDGES if np.median(shares) > 1 / 3 else _BRIGHT_RIDGES

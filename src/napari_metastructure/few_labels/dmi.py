"""The choice of a mask by determinant-based mutual information (DMI), as iGTT makes it.

Among the masks ``probability > t`` it takes the one of largest DMI with the probability (Luo et
al., AAAI 2022, arXiv 2103.11594). For two classes the determinant is the covariance of
probability P and mask S, ``mean(P S) - mean(P) mean(S)``. As a function of t it rises while t is
below the mean of P and falls above it, so the best threshold is the one that cuts at the mean: of
K thresholds, one of the mean's two neighbours. That takes one pass over the pixels, not K masks.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = ["best_threshold", "candidate", "dmi"]


def best_threshold(
    probability: ArrayLike | torch.Tensor, num_thresholds: int | None = 30
) -> float | torch.Tensor:
    """The threshold whose mask has the largest DMI with the probability.

    Parameters
    ----------
    probability : array of float, or torch.Tensor
        An array of any shape is one image. The first axis of a tensor counts images, and the work
        stays on the tensor's device.
    num_thresholds : int >= 3 or None
        How many thresholds, evenly spaced from the smallest to the largest value of each image;
        these two count but are not chosen, as published. None: every distinct value.

    Returns
    -------
    float, or tensor (batch,)
        ``probability > threshold`` is the chosen mask. It is empty if all values are the same.

    Raises
    ------
    ValueError
        If there are no pixels, there is NaN or infinity, or `num_thresholds` is below 3.

    See Also
    --------
    dmi : what is maximised

    Notes
    -----
    Luo et al. 2022, section "Iterative ground truth training", choose among 30 thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> best_threshold(np.array([0.1, 0.1, 0.2, 0.9]), num_thresholds=None)
    0.2
    """
    if num_thresholds is not None and num_thresholds < 3:
        raise ValueError(f"num_thresholds must be 3 or more, or None, not {num_thresholds}.")
    if isinstance(probability, torch.Tensor):
        return _thresholds(probability.detach().flatten(1), num_thresholds)
    pixels = np.asarray(probability)
    if pixels.dtype not in (np.float32, np.float64):
        pixels = pixels.astype(np.float64 if pixels.dtype.kind in "iu" else np.float32)
    pixels = torch.from_numpy(np.ascontiguousarray(pixels).reshape(1, -1))
    return float(_thresholds(pixels, num_thresholds)[0])


def _thresholds(pixels: torch.Tensor, num: int | None) -> torch.Tensor:
    """One threshold per row of (images, pixels)."""
    if pixels.shape[1] == 0:
        raise ValueError("There are no pixels to choose a threshold for.")
    if pixels.dtype not in (torch.float32, torch.float64):
        pixels = pixels.float()
    low, high = torch.aminmax(pixels, dim=1)
    mean = pixels.mean(1)
    if not torch.isfinite(mean).all():
        raise ValueError("The probability holds NaN or infinity; replace these pixels first.")
    if num is None:  # the largest value that does not exceed the mean
        below = torch.where(pixels <= mean[:, None].clamp(min=low[:, None]), pixels, low[:, None])
        return below.amax(1)
    num -= 2  # both ends are counted, not looked at
    step = (high - low) / (num + 1)
    last_below = ((mean - low) / step).nan_to_num(0).floor().clamp(1, max(num - 1, 1))
    left = low + last_below * step
    right = low + (last_below + 1).clamp(max=num) * step
    # the two covariances differ by the pixels between the thresholds, of weight P - mean
    between = (pixels > left[:, None]) & (pixels <= right[:, None])
    gain = torch.where(between, pixels - mean[:, None], 0).sum(1)
    return torch.where(gain >= 0, left, right)


def candidate(
    probability: ArrayLike | torch.Tensor, num_thresholds: int | None = 30
) -> NDArray[np.uint8] | torch.Tensor:
    """The mask ``probability > best_threshold(probability)``: uint8 array, or a bool tensor."""
    threshold: Any = best_threshold(probability, num_thresholds)
    if isinstance(probability, torch.Tensor):
        return probability > threshold.view(-1, *[1] * (probability.ndim - 1))
    return (np.asarray(probability) > threshold).astype(np.uint8)


def dmi(probability: ArrayLike, mask: ArrayLike) -> float:
    """Determinant of the joint distribution of a probability and a mask, -0.25 to 0.25.

    Parameters
    ----------
    probability : array of float, [0, 1]
    mask : array of the same shape, 0 and 1

    Returns
    -------
    float
        ``det Q`` with ``Q = [P; 1 - P] [S; 1 - S]^T / N``: the covariance of both. The published
        loss is ``-log |det Q|``; a negative determinant means an inverted mask.
    """
    p, s = np.asarray(probability, dtype=float), np.asarray(mask, dtype=float)
    return float((p * s).mean() - p.mean() * s.mean())

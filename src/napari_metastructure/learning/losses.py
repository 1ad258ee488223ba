"""Segmentation losses on logits, with pixels left out where the label is -1.

All losses take ``logits`` (batch, channels, *space), with one channel for two
classes and one per class otherwise, and ``target`` (batch, *space), class
indices with `IGNORE` where a pixel does not count. They return a scalar. With one
channel, `bce` and the DMI losses take soft targets too, floats from 0 to 1.
"""

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

__all__ = [
    "IGNORE",
    "LOSSES",
    "UNSUPERVISED_LOSSES",
    "bce",
    "bce_dice",
    "class_weighted",
    "dice",
    "dmi",
    "dmi_iou",
    "forward_corrected",
    "iou",
    "noise_floor",
    "signed_dmi",
    "signed_dmi_iou",
    "true_shares",
]

IGNORE = -1
_SMOOTH = 1e-5
_LEAST_DETERMINANT = 1e-3
_LEAST_SHARE = 1e-4  # of a class, below which its weight grows no more
_LEAST_PROBABILITY = 1e-6  # of a noisy label, so that a single impossible one costs little


def bce(logits: Any, target: Any) -> Any:
    """Cross entropy: binary for one channel, categorical for more."""
    logits, valid = logits.float(), target != IGNORE
    if logits.shape[1] > 1:
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(
            logits[:, 0], target.clamp(min=0).float(), weight=valid.float(), reduction="sum"
        )
    return total / valid.sum().clamp(min=1)


def class_weighted(shares: Any) -> Any:
    """Cross entropy in which rare classes count more, by the inverse square root of their share.

    Parameters
    ----------
    shares : sequence of float
        Share of each class in the labels, background first; they sum to 1.

    Returns
    -------
    callable
        ``loss(logits, target)`` like `bce`; the mean weight of a pixel is 1.
    """
    weights = torch.tensor(shares, dtype=torch.float32).clamp(min=_LEAST_SHARE).rsqrt()
    weights = weights / (weights * torch.tensor(shares, dtype=torch.float32)).sum()

    def loss(logits, target):
        logits, valid = logits.float(), target != IGNORE
        if logits.shape[1] == 1:  # as two classes
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        weight = weights.to(logits.device)
        total = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, reduction="sum")
        return total / valid.sum().clamp(min=1)

    return loss


def forward_corrected(matrix: Any) -> Any:
    """Cross entropy of noisy labels, for a network that gives the probabilities of the true ones.

    The noise is in the loss: ``-log((Q^T p)[noisy label])`` with the network's probabilities ``p``
    (Patrini et al. 2017, arXiv 1609.03683, forward correction). What minimises it are the
    probabilities of the true labels, so that nothing has to be undone in prediction.

    Parameters
    ----------
    matrix : (classes, classes) array of float
        Noise transition matrix Q, ``matrix[true, noisy]``; rows sum to 1. Of full rank, for else
        the true labels cannot be told apart.

    Returns
    -------
    callable
        ``loss(logits, target)`` like `bce`.
    """
    log_matrix = torch.tensor(matrix, dtype=torch.float32).clamp(min=_LEAST_PROBABILITY).log()

    def loss(logits, target):
        logits, valid = logits.float(), target != IGNORE
        noisy = log_matrix.to(logits.device).T[target.clamp(min=0)]  # (batch, *space, true)
        if logits.shape[1] == 1:
            background = F.logsigmoid(-logits[:, 0]) + noisy[..., 0]
            total = torch.logaddexp(background, F.logsigmoid(logits[:, 0]) + noisy[..., 1])
        else:
            total = (logits.log_softmax(1) + noisy.movedim(-1, 1)).logsumexp(1)
        return -(total * valid).sum() / valid.sum().clamp(min=1)

    return loss


def dice(logits: Any, target: Any) -> Any:
    """Soft Dice, 1 - 2 sum(p y) / (sum(p) + sum(y)), over the batch, mean over the classes."""
    p, y = _probabilities_and_truth(logits, target)
    overlap = (p * y).sum(1)
    return 1 - ((2 * overlap + _SMOOTH) / (p.sum(1) + y.sum(1) + _SMOOTH)).mean()


def iou(logits: Any, target: Any) -> Any:
    """Soft IoU, 1 - sum(p y) / (sum(p^2 + y) - sum(p y)), as in the iGTT paper (k = 2)."""
    p, y = _probabilities_and_truth(logits, target)
    overlap = (p * y).sum(1)
    union = (p.square() + y).sum(1) - overlap
    return 1 - ((overlap + _SMOOTH) / (union + _SMOOTH)).mean()


def bce_dice(logits: Any, target: Any) -> Any:
    """Cross entropy plus soft Dice, equally weighted."""
    return bce(logits, target) + dice(logits, target)


def dmi(logits: Any, target: Any) -> Any:
    """Determinant-based mutual information, -log(abs(det Q) + 1e-3), mean over the images.

    Blind to the sign: a prediction and its inverse score the same (Xu et al. 2019, arXiv
    1909.03388; Luo et al. 2022, arXiv 2103.11594, L_DMI). One channel only.
    """
    return -(_determinants(logits, target).abs() + _LEAST_DETERMINANT).log().mean()


def signed_dmi(logits: Any, target: Any) -> Any:
    """DMI that tells a prediction from its inverse: -log(det Q), mean over the images.

    Below 1e-3 the logarithm goes on as its tangent, so an inverted prediction has a gradient that
    turns it over. One channel only.
    """
    ratio = _determinants(logits, target) / _LEAST_DETERMINANT
    loss = torch.where(ratio > 1, -ratio.clamp(min=1).log(), 1 - ratio)
    return loss.mean() - math.log(_LEAST_DETERMINANT)


def dmi_iou(logits: Any, target: Any) -> Any:
    """L_DMI + L_IoU, the published loss of iGTT."""
    return dmi(logits, target) + iou(logits, target)


def signed_dmi_iou(logits: Any, target: Any) -> Any:
    """Signed DMI plus soft IoU."""
    return signed_dmi(logits, target) + iou(logits, target)


LOSSES = {"bce": bce, "dice": dice, "iou": iou, "bce+dice": bce_dice}
UNSUPERVISED_LOSSES = {
    "bce": bce,
    "dmi": dmi,
    "signed_dmi": signed_dmi,
    "dmi+iou": dmi_iou,
    "signed_dmi+iou": signed_dmi_iou,
}


def noise_floor(matrix: Any, shares: Any) -> float:
    """Cross entropy of the noisy labels for a network that knows the true ones.

    A loss below it, over a whole epoch, says more of the noisy labels than the true ones do.

    Parameters
    ----------
    matrix : list of list of float or None
        Noise transition matrix; None if it is not known.
    shares : list of float
        Share of each class in the noisy labels.

    Returns
    -------
    float
        The entropy H(noisy | true) in nats; minus infinity where the noise is not known.
    """
    from scipy.stats import entropy

    if matrix is None:
        return -np.inf
    return float(true_shares(matrix, shares) @ entropy(matrix, axis=1))


def true_shares(matrix: Any, shares: Any) -> Any:
    """Share of each true class, float64 summing to 1, from those of the noisy classes."""
    true = np.clip(np.linalg.solve(np.transpose(matrix), shares), 0, None)
    return true / true.sum()


def _determinants(logits, target):
    """det Q per image: the covariance of probability and target over the pixels that count."""
    valid = (target != IGNORE).float().flatten(1)
    p, y = logits.float().sigmoid().flatten(1), target.clamp(min=0).float().flatten(1)
    count = valid.sum(1).clamp(min=1)
    both = (p * y * valid).sum(1) / count
    return both - (p * valid).sum(1) / count * ((y * valid).sum(1) / count)


def _probabilities_and_truth(logits, target):
    """Foreground classes as (class, pixels of the batch), zero where the pixel does not count."""
    logits = logits.float()
    valid = target != IGNORE
    if logits.shape[1] == 1:
        p, y = logits.sigmoid(), (target == 1)[:, None]
    else:
        classes = torch.arange(1, logits.shape[1], device=target.device)
        p = logits.softmax(1)[:, 1:]
        y = target[:, None] == classes.view(1, -1, *[1] * (target.ndim - 1))
    p = (p * valid[:, None]).transpose(0, 1).flatten(1)
    return p, y.to(p.dtype).transpose(0, 1).flatten(1)

"""Segmentation losses on logits, with pixels left out where the label is -1.

All losses take ``logits`` (batch, channels, *space), with one channel for two
classes and one per class otherwise, and ``target`` (batch, *space), class
indices with `IGNORE` where a pixel does not count. They return a scalar.
"""

import torch
from torch.nn import functional as F

__all__ = ["IGNORE", "LOSSES", "bce", "bce_dice", "dice", "iou"]

IGNORE = -1
_SMOOTH = 1e-5


def bce(logits, target):
    """Cross entropy: binary for one channel, categorical for more."""
    if logits.shape[1] > 1:
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        return total / (target != IGNORE).sum().clamp(min=1)
    valid = (target != IGNORE).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(
        logits[:, 0], target.clamp(min=0).to(logits.dtype), weight=valid, reduction="sum"
    )
    return loss / valid.sum().clamp(min=1)


def dice(logits, target):
    """Soft Dice, 1 - 2 sum(p y) / (sum(p) + sum(y)), over the batch, mean over the classes."""
    p, y = _probabilities_and_truth(logits, target)
    overlap = (p * y).sum(1)
    return 1 - ((2 * overlap + _SMOOTH) / (p.sum(1) + y.sum(1) + _SMOOTH)).mean()


def iou(logits, target):
    """Soft IoU, 1 - sum(p y) / (sum(p^2 + y) - sum(p y)), as in the iGTT paper (k = 2)."""
    p, y = _probabilities_and_truth(logits, target)
    overlap = (p * y).sum(1)
    union = (p.square() + y).sum(1) - overlap
    return 1 - ((overlap + _SMOOTH) / (union + _SMOOTH)).mean()


def bce_dice(logits, target):
    """Cross entropy plus soft Dice, equally weighted."""
    return bce(logits, target) + dice(logits, target)


LOSSES = {"bce": bce, "dice": dice, "iou": iou, "bce+dice": bce_dice}


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

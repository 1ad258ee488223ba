"""Random changes of training patches, so that few labels teach more."""

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.learning.losses import IGNORE

__all__ = ["FEW_PIXELS", "Augmentation", "strength_for"]

FEW_PIXELS = 2**20
"""Annotated pixels, fewer of which are few labels: 16 images of 256 x 256."""

_STRENGTH = 0.5  # where labels are few
_SCALING = 0.4  # of the sides, times the strength
_BEND = 10.0  # pixels of displacement, times the strength
_BEND_SPACING = 32  # pixels between independent displacements
_BLUR = 3.0  # pixels of sigma, times the strength


def strength_for(annotated: int, strength: float | None) -> float:
    """The strength asked for, or one by the number of annotated pixels.

    Parameters
    ----------
    annotated : int
        Pixels that count.
    strength : float or None
        None: 0.5 for fewer than `FEW_PIXELS` pixels, else 0.
    """
    if strength is None:
        return _STRENGTH if annotated < FEW_PIXELS else 0.0
    return strength


class Augmentation:
    """Rotation, scaling, bending, blur, contrast, brightness and noise at random, by MONAI.

    In volumes the rotation is about the first axis, along which voxels may be thicker.

    Parameters
    ----------
    strength : float
        Above 0. Patches are moved with this probability, by any angle; the other changes grow
        with it.
    spatial_dims : {2, 3}
    """

    def __init__(self, strength: float, spatial_dims: int = 2) -> None:
        from monai.transforms import (
            Compose,
            RandAffineGrid,
            RandGaussianNoise,
            RandGaussianSmooth,
            RandScaleIntensity,
            RandShiftIntensity,
            Resample,
        )

        self.strength, self.spatial_dims = strength, spatial_dims
        scaling = (min(_SCALING * strength, 0.5),) * spatial_dims
        self._affine = RandAffineGrid(rotate_range=(np.pi,), scale_range=scaling)
        self._resample = Resample()
        self._values = Compose(
            [
                RandGaussianSmooth(*[(0.25, 0.25 + _BLUR * strength)] * 3, prob=min(0.2, strength)),
                RandScaleIntensity(factors=min(strength, 0.9), prob=1),
                RandShiftIntensity(offsets=strength, prob=1),
                RandGaussianNoise(std=strength, prob=1),  # of a deviation from 0 to this
            ]
        )

    @classmethod
    def of(cls, strength: float, spatial_dims: int = 2) -> "Augmentation | None":
        """The augmentation of a strength; None for 0."""
        return cls(strength, spatial_dims) if strength else None

    def __call__(self, image: NDArray, target: NDArray, seed: int) -> tuple[NDArray, NDArray]:
        """A changed patch and its target.

        Parameters
        ----------
        image : array of float32, (channels, *patch)
            Of zero mean and unit deviation.
        target : array of int64, (*patch)
            Class indices, `losses.IGNORE` where a pixel does not count; so it is, too, where the
            moved patch shows what lay outside.
        seed : int
            Of this patch; the global random state is left alone.

        Returns
        -------
        image, target : arrays
            Of the same shapes and types.
        """
        rng = np.random.RandomState(seed)
        if rng.random() < self.strength:
            image, target = self._moved(image, target, rng)
        self._values.set_random_state(state=rng)
        changed = np.asarray(self._values(np.ascontiguousarray(image)))
        return changed.astype(np.float32, copy=False), target

    def _moved(self, image, target, rng):
        """Both rotated, scaled and bent in the same way."""
        import torch

        self._affine.set_random_state(state=rng)
        grid = torch.as_tensor(self._affine(spatial_size=target.shape))
        grid[: self.spatial_dims] += self._bend(target.shape, rng)
        from_one = torch.from_numpy((target - IGNORE).astype(np.float32))[None]  # outside is 0
        moved = self._resample(
            torch.from_numpy(np.ascontiguousarray(image)), grid, padding_mode="reflection"
        )
        labels = self._resample(from_one, grid, mode="nearest", padding_mode="zeros")
        return np.asarray(moved), np.asarray(labels)[0].astype(np.int64) + IGNORE

    def _bend(self, shape, rng):
        """A smooth random displacement in pixels, (axes, *shape)."""
        import torch
        from torch.nn.functional import interpolate

        coarse = [2 + side // _BEND_SPACING for side in shape]
        size = rng.uniform(0, _BEND * self.strength)
        drawn = torch.from_numpy(rng.uniform(-size, size, (1, len(shape), *coarse))).float()
        for axis, side in enumerate(shape):  # short axes bend less
            drawn[:, axis] *= min(1.0, side / (4 * _BEND_SPACING))
        mode = "bicubic" if len(shape) == 2 else "trilinear"
        return interpolate(drawn, shape, mode=mode, align_corners=True)[0]

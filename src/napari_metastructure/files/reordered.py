"""An OME-Zarr image that is written and read with its axes in another order than it is stored in.

The format wants time before channels before space. Maps of classes have these in front, and
ImageJ has planes before channels.
"""

from dataclasses import dataclass

import numpy as np

from napari_metastructure.files.ome_zarr import ZarrImage

__all__ = ["Reordered"]


@dataclass
class Reordered(ZarrImage):
    """A `ZarrImage` whose shape, chunks and indices have other axes first.

    Attributes
    ----------
    order : tuple of int
        Where each of its axes is stored, as for `numpy.transpose`. `array` and what tells of the
        axes (`axes`, `scale` ...) are as they are stored.
    """

    order: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self.array.shape[i] for i in self.order)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return tuple(self.array.chunks[i] for i in self.order)

    def __getitem__(self, where):
        stored, kept = self._stored(where)
        return np.transpose(super().__getitem__(stored), [sorted(kept).index(i) for i in kept])

    def __setitem__(self, where, block):
        stored, kept = self._stored(where)
        if np.ndim(block) == len(kept):  # else one value for all
            block = np.transpose(block, np.argsort(kept))
        super().__setitem__(stored, block)

    def _stored(self, where):
        """An index as it is stored, and the axes that it keeps, in this image's order."""
        where = where if isinstance(where, tuple) else (where,)
        if not any(part is Ellipsis for part in where):
            where = (*where, Ellipsis)
        at = next(i for i, part in enumerate(where) if part is Ellipsis)
        missing = (slice(None),) * (self.ndim + 1 - len(where))
        where = (*where[:at], *missing, *where[at + 1 :])
        parts = dict(zip(self.order, where))
        kept = [i for i in self.order if isinstance(parts[i], slice)]
        return tuple(parts[i] for i in range(self.ndim)), kept

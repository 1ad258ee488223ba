"""The result layers of the segmentation dock: their order, and what the user paints on them."""

from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_metastructure.plugin.parts.corrections import Corrections
from napari_metastructure.plugin.parts.stroke_layer import result_colors

__all__ = ["Results", "summary"]


class Results:
    """The layers of the last run; those of earlier runs go once they are hidden.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._layers, self._masks = [], []

    def put_away(self) -> None:
        """Remove hidden layers of earlier runs and hide the others: nothing lies twice."""
        present = [layer for layer in self._layers if layer in self.viewer.layers]
        for layer in present:
            if not layer.visible:
                self.viewer.layers.remove(layer)
        self._layers = [layer for layer in present if layer in self.viewer.layers]
        self.hide()
        self._masks = []

    def hide(self) -> None:
        """Hide the layers, as while a live result is shown."""
        for layer in self._layers:
            if layer in self.viewer.layers:
                layer.visible = False

    def take(
        self, image: Any, layers: Any, mask: Any, corrections: Corrections, *, taught: bool
    ) -> None:
        """Hold the layers of one image's result, among them its mask."""
        self._layers += list(layers)
        if taught:
            mask.colormap = result_colors()
        self._masks.append((image, mask, corrections))

    def corrected(self, images: list, strokes: list) -> list:
        """Strokes of images, and what was painted on their last masks as further strokes."""
        for image, one in zip(images, strokes):
            for masked, mask, corrections in self._masks:
                fits = masked is image and mask.data.size == one.size
                if not fits or mask not in self.viewer.layers:
                    continue
                changed = corrections.painted().reshape(one.shape)
                one[changed] = np.asarray(mask.data).reshape(one.shape)[changed] + 1
        return strokes


def summary(done: Any, step: Any) -> str:
    """What came out of a run, in one line.

    Parameters
    ----------
    done : Done
    step : Step or None
        The last step of the training.
    """
    record, parts = done.record, []
    if step is not None:
        verb = "Stopped at step" if done.stopped else "Trained for"
        unit = "" if done.stopped else " steps"
        parts.append(f"{verb} {step.step} of {step.total}{unit}")
    if "result" in record:
        parts += [] if record["result"] == "none" else [f"result of the {record['result']}"]
        held_out = record.get("held_out")
        if isinstance(held_out, dict):
            parts.append(
                "area under the ROC curve on held-out strokes: network "
                f"{held_out['network']:.2f}, classifier {held_out['classifier']:.2f}"
            )
        elif held_out:
            parts.append("too few strokes to compare network and classifier")
    parts += [record["note"]] if "note" in record else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""

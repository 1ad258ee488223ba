"""The result layers of the segmentation dock: their order, and what the user paints on them."""

from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_metastructure.plugin.layers import hidden_layers
from napari_metastructure.plugin.parts.corrections import Corrections
from napari_metastructure.plugin.parts.stroke_layer import brush_size, result_colors

__all__ = ["Results", "is_nothing", "summary"]


class Results:
    """The layers of the last run; those of earlier runs go once they are hidden.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._layers, self._masks = [], []

    def put_away(self, images: list) -> None:
        """Remove hidden layers of earlier runs on these images and hide the others.

        So nothing lies twice; results of other images stay, and those hidden by other docks.
        """
        for layer in self._of(images):
            if not layer.visible and layer not in hidden_layers:
                self.viewer.layers.remove(layer)
        self._layers = [pair for pair in self._layers if pair[1] in self.viewer.layers]
        self.hide(images)
        self._masks = [one for one in self._masks if not any(one[0] is image for image in images)]

    def hide(self, images: list) -> None:
        """Hide the layers of these images, as while a live result is shown."""
        for layer in self._of(images):
            if layer.visible:
                layer.visible = False
                hidden_layers.discard(layer)

    def _of(self, images):
        return [
            layer
            for image, layer in self._layers
            if layer in self.viewer.layers and any(image is one for one in images)
        ]

    def take(
        self, image: Any, layers: Any, mask: Any, corrections: Corrections, *, taught: bool
    ) -> None:
        """Hold the layers of one image's result, among them its mask."""
        self._layers += [(image, layer) for layer in layers]
        if taught:
            mask.colormap = result_colors()
            mask.brush_size = brush_size(mask.data.shape)  # corrections are strokes
        self._masks.append((image, mask, corrections))

    def correct(self, images: list, strokes: list) -> bool:
        """Add what was painted on images' last masks to their strokes; whether any was."""
        any_painted = False
        for image, one in zip(images, strokes):
            for masked, mask, corrections in self._masks:
                fits = masked is image and mask.data.size == one.size
                if not fits or mask not in self.viewer.layers:
                    continue
                changed = corrections.painted().reshape(one.shape)
                if changed.any():
                    one[changed] = np.asarray(mask.data).reshape(one.shape)[changed] + 1
                    any_painted = True
        return any_painted


def is_nothing(done: Any) -> bool:
    """Whether a run was stopped before anything was learnt, by a classifier either, or found, so
    that what there was stays.

    Parameters
    ----------
    done : Done
    """
    if not done.stopped or done.probabilities is None or done.record["steps"]:
        return False
    if done.record.get("result") == "classifier":
        return False
    return not any(np.any(mask) for mask in done.masks)


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
    if "note" in record:
        parts.append(record["note"])
    elif "result" in record:
        parts.append(f"result of the {record['result']}")
        held_out = record.get("held_out")
        if isinstance(held_out, dict):
            parts.append(
                "area under the ROC curve on held-out strokes: network "
                f"{held_out['network']:.2f}, classifier {held_out['classifier']:.2f}"
            )
        elif held_out:
            parts.append(held_out.removeprefix("none: "))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""

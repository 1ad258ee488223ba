"""Dock widget: spatial density distributions of the classes of a labels layer."""

from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, Slider
from napari.layers import Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer

from napari_metastructure.jobs.events import Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.density import DensityConfig
from napari_metastructure.labels.density_maps import (
    ALL,
    EXPECTED,
    FOREGROUND,
    OBSERVED,
    RESIDUAL,
    Request,
    compute,
    one_plane,
)
from napari_metastructure.labels.planewise import noise_between, some_classes
from napari_metastructure.plugin.layers import (
    RECORD,
    made_by,
    noise_of,
    place,
    place_plane,
    plane_index,
    reference_of,
)
from napari_metastructure.plugin.parts.again import SayAgain, as_call, config_code, layer_code
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.live import LiveLayer
from napari_metastructure.plugin.parts.run_panel import RunPanel

__all__ = ["DensityDistributions"]

_SHARES = {"colormap": "viridis", "contrast_limits": (0, 1)}
_LOOKS = {
    OBSERVED: _SHARES,
    EXPECTED: _SHARES,
    RESIDUAL: {"colormap": "PiYG", "contrast_limits": (-5, 5)},
}
_NAMES = {OBSERVED: "density", EXPECTED: "expected density", RESIDUAL: "residual"}


class DensityDistributions(Dock):
    """Show where each class of a labels layer is dense, expected to be, or off.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._layer: Any = None
        self._computing: Any = None
        self._pending: Any = None
        # opaque, as what shows through would change the colours, which stand for shares
        self._preview = LiveLayer(self.viewer, "image", "density preview", opacity=1)
        self._timer = QTimer(self, interval=150, singleShot=True)
        self._timer.timeout.connect(self._show_preview)
        self._build()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()

    def _build(self):
        self.labels = self.choose_layer(
            "labels",
            "Labels",
            self._is_labels,
            tooltip="Clean or noisy labels.",
            follows=lambda layer: made_by(layer) not in ("compare", "measure"),
        )
        self.mode = ComboBox(
            name="mode",
            label="Show",
            choices=list(_LOOKS),
            tooltip="observed: share of the window that belongs to the class. expected: the same, "
            "predicted from the clean labels and the noise. residual: the difference, in "
            "units of the sampling error.",
        )
        self.clean = self.choose_layer(
            "clean",
            "Clean labels",
            self._is_labels,
            tooltip="The same labels without noise.",
            unlike=self.labels,
            suggest=lambda: reference_of(self.labels.value, self.viewer.layers),
        )
        self.classes = ComboBox(
            name="classes",
            label="Classes",
            choices=[FOREGROUND, ALL],
            tooltip="One image layer per class; foreground: all but 0.",
        )
        self.radius = Slider(
            name="radius",
            label="Radius",
            min=1,
            max=100,
            value=DensityConfig.model_fields["radius"].default,
            tooltip="Half the side of the window, in pixels along x. Along the other axes it has "
            "the same length in the layer's units.",
        )
        self.scope = ComboBox(name="scope", label="Planes", choices=["whole stack", "this plane"])
        self.labels.changed.connect(self._on_layer)  # before the form, which shows a preview
        self.form = self.add(Form())
        self.form.add(self.labels, self.mode, self.clean, self.classes, self.radius)
        self.form.add_fields(DensityConfig, ("kernel", "spatial_dims")).add(self.scope)
        self.about = self.add(note())
        self.panel = self.add(RunPanel("Compute"))
        command = "density LABELS -o density.ome.tif"
        self.again = self.add(SayAgain(self, self.python, self.config, command))
        self.form.changed.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._check)

    # ------------------------------------------------------------------ parameters

    def _is_labels(self, layer):
        return isinstance(layer, Labels) and not layer.multiscale

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        if self.labels.value is not self._layer:
            self._on_layer()
        self._check()

    def problem(self) -> Any:
        """Why nothing can be computed; None if it can."""
        labels, clean = self.labels.value, self.clean.value
        if labels is None:
            return self.no_labels("Add a Labels layer.", one_level=True)
        if labels.ndim < 2:
            return f"{labels.name} has one axis only; choose labels with at least two."
        if self.mode.value == OBSERVED:
            return None
        if clean is None or clean is labels:
            return "Choose the clean labels that the noisy ones were made from."
        if clean.data.shape != labels.data.shape:
            return (
                f"{clean.name} has shape {clean.data.shape} but {labels.name} has "
                f"{labels.data.shape}; choose clean labels of the same pixels."
            )
        return None

    def _check(self):
        problem = self.problem()
        self.panel.set_problem(problem)
        return problem is None

    def _on_layer(self):
        layer = self._layer = self.labels.value
        classes = [] if layer is None else some_classes(layer.data)
        self.classes.choices = [FOREGROUND, ALL, *map(str, classes)]
        self._remove_preview()
        self._show_fields()
        self._check()
        say(self.about, None)

    def _on_form(self):
        self._show_fields()
        if self._check():
            self._preview_later()
        else:
            self._remove_preview()
            say(self.about, None)

    def _show_fields(self):
        """Show the rows that the mode and the layer ask for."""
        shown = {"labels", "mode", "classes", "radius", "kernel"}
        if self.mode.value != OBSERVED:
            shown.add("clean")
        if self.labels.value is not None and self.labels.value.ndim > 2:
            shown |= {"spatial_dims", "scope"}
        self.form.show_only(shown)

    def config(self) -> Any:
        """The `DensityConfig` that the form shows, with pixels in units of those along x."""
        values = self.form.values()
        scale = np.abs(self.labels.value.scale[-values.get("spatial_dims", 2) :])
        return DensityConfig(radius=self.radius.value, scale=tuple(scale / scale[-1]), **values)

    def _request(self, index):
        """What to compute on the plane `index`, or with None on the whole stack."""
        labels, mode, classes = self.labels.value, self.mode.value, self.classes.value
        clean = None if mode == OBSERVED else self.clean.value
        return Request(
            mode=mode,
            labels=labels.data,
            clean=None if clean is None else clean.data,
            noise=None if clean is None else noise_between(noise_of(clean), noise_of(labels)),
            classes=classes if classes in (FOREGROUND, ALL) else int(classes),
            config=self.config(),
            index=index,
        )

    def python(self) -> list[str]:
        """The next run as Python code."""
        labels, mode = self.labels.value, self.mode.value
        one_plane = self.form.is_shown("scope") and self.scope.value == "this plane"
        index = plane_index(labels, self.viewer) if one_plane else None
        request = self._request(index)
        code = as_call(
            "request = Request",
            f"mode={mode!r}",
            "labels=labels.data",
            f"clean={'None' if request.clean is None else layer_code(self.clean.value) + '.data'}",
            f"noise={request.noise!r}",
            f"classes={request.classes!r}",
            f"config={config_code(request.config)}",
            f"index={index!r}",
        )
        placed = "place(labels)" if index is None else f"place_plane(labels, {index})"
        name = f"{labels.name} {_NAMES[mode]} of "
        looks = as_call("dict", **_LOOKS[mode])
        return [
            "from napari_metastructure.labels.density import DensityConfig",
            "from napari_metastructure.labels.density_maps import Request, all_maps",
            "from napari_metastructure.plugin.layers import place, place_plane",
            f"labels = {layer_code(labels)}",
            code,
            "for value, data in all_maps(request).maps.items():",
            f"    name = {name!r} + str(value)",
            f"    viewer.add_image(data, name=name, **{looks}, **{placed})",
        ]

    # ------------------------------------------------------------------ preview

    def _preview_later(self):
        if self.in_front and not self.panel.running:
            self._timer.start()

    def _follow_plane(self, event=None):
        if self._preview.shown:
            self._preview_later()

    def _show_preview(self):
        """Compute the preview in the background; while one is computed the next one waits."""
        if not self._check() or self.panel.running:
            return
        if self._computing is not None:
            self._timer.start()
            return
        layer = self.labels.value
        index = plane_index(layer, self.viewer)
        request = self._request(index)
        worker = create_worker(one_plane, request, _start_thread=False, _ignore_errors=True)
        self._computing = worker
        worker.returned.connect(lambda found: self._place_preview(request, layer, found))
        worker.errored.connect(lambda error: self._wanted() and say(self.about, str(error)))
        worker.finished.connect(self._preview_done)
        worker.start()

    def _preview_done(self):
        self._computing = None

    def _place_preview(self, request, layer, found):
        if not self._wanted() or layer is not self.labels.value:
            return
        value, data = next(iter(found.maps.items()))
        placed = place_plane(layer, request.index)
        self._preview.draw(data, placed | _LOOKS[request.mode])
        where = "" if layer.ndim == 2 else " on this plane"
        say(self.about, f"Preview of class {value}{where}. {self._describe(request, found)}")

    def _wanted(self):
        """Whether a preview that comes now should be shown; not once the dock was closed."""
        return self._computing is not None and self.in_front and not self.panel.running

    def _describe(self, request, found):
        """The window in pixels and in units, and how well Lemma 1 holds."""
        config, layer = request.config, self.labels.value
        sides = [2 * int(config.radius / s + 0.5) + 1 for s in config.scale]
        text = f"Window {' × '.join(map(str, sides))} pixels"
        if layer is not None and str(layer.units[-1]) != "pixel":
            lengths = [side * abs(s) for side, s in zip(sides, layer.scale[-len(sides) :])]
            text += f" ({' × '.join(f'{x:.3g}' for x in lengths)} {layer.units[-1]:~})"
        if found.between:
            text += f"; transition matrix {found.between.source}"
        if request.mode == RESIDUAL:
            text += f". Within 3 sigma: {100 * found.inside:.1f} % of the pixels (99 % or more "
            text += "if the noise keeps the structure)"
        return text + "."

    def _remove_preview(self):
        self._timer.stop()
        self._preview.remove()

    def hideEvent(self, event: Any) -> None:
        """Take the preview away when the dock is hidden."""
        super().hideEvent(event)
        self._remove_preview()

    def covered(self) -> None:
        """Take the preview away with its tab."""
        self._remove_preview()

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()
        self._computing = None
        self._remove_preview()

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Compute the densities in the background; each class gives a new layer."""
        layer = self.labels.value
        one_plane = layer.ndim > 2 and self.scope.value == "this plane"
        index = plane_index(layer, self.viewer) if one_plane else None
        request = self._request(index)
        self._pending = {
            "request": request,
            "source": layer.name,
            "clean": None if request.clean is None else self.clean.value.name,
            "place": place(layer) if index is None else place_plane(layer, index),
        }
        self._remove_preview()
        self.panel.start(Job(lambda job: compute(job, request)), "Density")

    def _on_event(self, event):
        if not isinstance(event, Result) or event.stopped:
            return
        self.panel.in_turns(self._showing(event.value, self._pending))

    def _showing(self, found, pending):
        """Show the maps; a step for each layer."""
        request = pending["request"]
        for value, data in found.maps.items():
            record = {
                "operation": "density",
                "source": pending["source"],
                "clean": pending["clean"],
                "show": request.mode,
                "class": value,
                "density": request.config.model_dump(mode="json"),
                "matrix": found.between and found.between.matrix.tolist(),
            }
            radius = f"{request.config.radius:g} px"
            self.viewer.add_image(
                data,
                name=f"{pending['source']} {_NAMES[request.mode]} of {value} ({radius})",
                metadata={RECORD: record},
                visible=value == next(iter(found.maps)),
                **_LOOKS[request.mode],
                **pending["place"],
            )
            yield
        self._pending = None
        say(self.about, self._describe(request, found))

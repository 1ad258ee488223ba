"""Dock widget: train under growing label noise, to see how good the annotation must be."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari import Viewer
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_metastructure.jobs.events import Result, Scored
from napari_metastructure.plugin.layers import RECORD, hide_results, made_by
from napari_metastructure.plugin.parts.again import (
    SayAgain,
    config_code,
    layer_code,
    region_code,
    source_code,
)
from napari_metastructure.plugin.parts.colours import COLOURS, FAINT, in_colours
from napari_metastructure.plugin.parts.dock import Dock, note, say, section
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.model_panel import annotation_of, is_image, is_labels
from napari_metastructure.plugin.parts.path_edit import PathEdit
from napari_metastructure.plugin.parts.plots import FollowsTheme
from napari_metastructure.plugin.parts.run_panel import RunPanel, late_job, notify_error
from napari_metastructure.sweep import report
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep.plan import SweepRun, plan
from napari_metastructure.words import counted

__all__ = ["NoiseSweep"]

_NOISE = (*report.AXES, "seeds")
_BUDGET = ("epochs", "time_limit", "validation_fraction", "device")
_ADVANCED = (
    "network",
    "channels",
    "depth",
    "loss",
    "patch_size",
    "batch_size",
    "min_steps",
    "learning_rate",
    "ignore_label",
    "seed",
    "scheduler",
)


class NoiseSweep(Dock):
    """Train one network again and again, on labels of growing noise, and draw what it costs.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._source: Any = None
        self._config: Any = None
        self.sweep: Any = None
        self._scored: dict[Any, Scored] = {}
        self._build_inputs()
        self._build_run()
        self.reset_choices()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        self.image = self.choose_layer(
            "image", "Image", is_image, tooltip="What the network sees.", follows=is_image
        )
        self.labels = self.choose_layer(
            "labels",
            "Clean labels",
            is_labels,
            tooltip="Your best annotation of the image.",
            follows=lambda layer: is_labels(layer) and made_by(layer) is None,
            suggest=lambda: annotation_of(self.image, self.labels),
        )
        self.folder = PathEdit(
            name="folder",
            label="Folder",
            mode="d",
            nullable=True,
            value=None,
            tooltip="Optional: each run is saved here as soon as it is done. Choose the same "
            "folder again to resume an interrupted sweep.",
        )
        self.inputs = self.add(Form().add(self.image, self.labels))
        self.reading = self.add(InputForm(self, "trained"))
        self.form = self.add(Form().add_fields(SweepConfig, (*_NOISE, *_BUDGET)))
        self.form.add(self.folder)
        self.advanced = Form().add_fields(SweepConfig, _ADVANCED)
        self.add(section("More settings", self.advanced))
        self.plan_note = self.add(note())
        for form in (self.inputs, self.reading, self.form, self.advanced):
            form.changed.connect(self._check)
        self.reading.form["spatial_dims"].changed.connect(self._on_dimensions)

    def _build_run(self):
        self.panel = self.add(RunPanel("Sweep"))
        command = "sweep IMAGES LABELS -o sweep"
        self.again = self.add(SayAgain(self, self.python, self.config, command))
        self.plot = self.add(SweepPlot())
        self.plot.hide()
        self.summary = self.add(note())
        self.save_button = self.add(QPushButton("Save report …"))
        self.save_button.setToolTip("The table, the curves, and one page that shows everything.")
        self.save_button.setEnabled(False)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._check)
        self.plot.clicked.connect(self.show_prediction)
        self.save_button.clicked.connect(self._ask_and_save)

    # ------------------------------------------------------------------ inputs

    def config(self) -> SweepConfig:
        """The `SweepConfig` that the form shows."""
        read = self.reading.values()
        return SweepConfig(**self.form.values(), **self.advanced.values(), **read)

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()

    def problem(self) -> str | None:
        """Why the sweep cannot start; None if it can."""
        image, labels = self.image.value, self.labels.value
        if image is None or labels is None:
            return self.no_labels("Add an Image layer and a Labels layer with its clean labels.")
        misfit = self.reading.source().misfit(labels)
        if misfit:
            return misfit
        try:
            config = self.config()
        except ValueError as error:
            return self.in_words(error)
        if config.validation_fraction == 0:
            return "No images are left to score on; raise the test fraction above 0."
        return None

    def _check(self):
        self.reading.show_layer(self.image.value, self.labels.value)
        problem = self.problem()
        self.panel.set_problem(problem)
        say(self.plan_note, "" if problem else _described(self.config()))

    def _on_dimensions(self, dims):
        """Fill in the sizes that suit planes or volumes."""
        defaults = SweepConfig(spatial_dims=dims)
        names = ("patch_size", "batch_size")
        self.advanced.set_values({name: getattr(defaults, name) for name in names})

    def python(self) -> list[str]:
        """The next run as Python code."""
        labels, folder = layer_code(self.labels.value), self._folder()
        region = region_code("image", self.reading)
        folder = None if folder is None else str(folder)
        return [
            "from napari_metastructure.plugin.layers import Source, region_mask",
            source_code("image", self.image.value, self.reading),
            f"labels = image.labels({labels}, {region})",
            f"config = nms.{config_code(self.config())}",
            f"sweep = nms.sweep(image.array, labels, config, folder={folder!r}).run()",
            "print(sweep.summary)",
        ]

    def _folder(self):
        """Where the runs are saved; None if nowhere."""
        folder = self.folder.value
        return folder if folder and str(folder) != "." else None

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Sweep in the background."""
        source, config = self.reading.source(), self.config()
        try:
            labels = source.labels_later(self.labels.value, self.reading.region(source))
        except ValueError as error:
            notify_error(error)
            return
        job = late_job(
            "napari_metastructure.sweep.sweep:sweep",
            images=source.array,
            labels=labels,
            config=config,
            folder=self._folder(),
        )
        self._source, self._config = (source, source.name, source.place()), config
        self.sweep, self._scored = None, {}
        self.save_button.setEnabled(False)
        self.plot.begin(config)
        self.plot.show()
        say(self.summary, "")
        self.panel.start(job, "Sweep")

    def _on_event(self, event):
        if isinstance(event, Scored):
            self._scored[_key(event.row)] = event
            table = [scored.row for scored in self._scored.values()]
            self.plot.draw(table)
            say(self.summary, f"{event.done} of {event.total} runs. {report.summary(table)}")
        elif isinstance(event, Result):
            self.sweep = event.value
            self._summarise()

    def _summarise(self):
        """What the sweep says, and what can be done with it."""
        table, parts = self.sweep.table, [self.sweep.summary]
        if self.sweep.stopped:
            parts.append("Some runs are missing.")
        if any(row["kind"] in report.UNITS and row["dice"] is not None for row in table):
            parts.append("Click a point to see its prediction.")
        say(self.summary, " ".join(parts))
        self.save_button.setEnabled(bool(table))

    def under_way(self) -> str:
        """What of a running sweep is not kept yet."""
        return "its result" if self._folder() is None else "the present training"

    def kept(self) -> Any:
        """The last sweep that ended."""
        found = self.sweep, self._scored, self._source, self._config
        return None if self.sweep is None else found

    def bring_back(self, kept: Any) -> None:
        """Show the last sweep again."""
        self.sweep, self._scored, self._source, self._config = kept
        self.plot.begin(self._config)
        self.plot.show()
        self.plot.draw([scored.row for scored in self._scored.values()])
        self._summarise()

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()

    # ------------------------------------------------------------------ results

    def show_prediction(self, key: tuple[str, float | None, int]) -> None:
        """Add the prediction of a run (kind, amount, seed) as a labels layer."""
        from napari_metastructure.sweep.sweep import as_images

        scored = self._scored[key]
        if scored.prediction is None:
            notify_error(f"This run failed: {scored.row['error']}")
            return
        source, name, placed = self._source
        run = SweepRun(*key)
        title = f"{name} trained on {run.title} (seed {run.seed})"
        if title in self.viewer.layers:
            layer = self.viewer.layers[title]
            hide_results(self.viewer, name, placed, layer.data.shape)
            self.viewer.layers.selection.active, layer.visible = layer, True
            return
        data = as_images(scored.prediction, [source.layout.label_shape], self._config)[0]
        data = source.shaped(data)
        record = {"operation": "sweep", "config": self._config.model_dump(mode="json")}
        record |= {"run": scored.row, "applied_to": name}
        hide_results(self.viewer, name, placed, data.shape)
        self.viewer.add_labels(data, name=title, metadata={RECORD: record}, **placed)

    def save(self, folder: str | Path) -> None:
        """Write the report to a folder."""
        try:
            page = self.sweep.save(folder)
        except OSError as error:
            notify_error(f"The report could not be saved: {error}")
        else:
            show_info(f"The report is {page}.")

    def _ask_and_save(self):
        folder = QFileDialog.getExistingDirectory(self, "Folder for the report")
        if folder:
            self.save(folder)


def _key(row):
    return row["kind"], row["amount"], row["seed"]


def _described(config):
    """How many runs a sweep has."""
    runs = len(plan(config))
    noises = runs // config.seeds - 1
    return (
        f"{runs} trainings: clean labels and {noises} "
        f"{'kind or amount' if noises == 1 else 'kinds or amounts'} of noise, "
        f"{counted(config.seeds, 'seed')} each. "
        "The first training shows how long the sweep will take."
    )


class SweepPlot(FollowsTheme, pg.GraphicsLayoutWidget):
    """Dice against the amount of noise, one panel per family of noise; points can be clicked.

    Attributes
    ----------
    clicked : Signal(object)
        The (kind, amount, seed) of a point.
    """

    clicked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self._panels, self._table = [], []
        self._timer = QTimer(self, interval=250, singleShot=True)
        self._timer.timeout.connect(self._draw)

    def begin(self, config: SweepConfig) -> None:
        """Lay out empty panels for the kinds of noise of a config."""
        self.clear()
        self._panels, self._table = [], []
        groups = report.panels([kind for kind in report.UNITS if getattr(config, kind)])
        for number, kinds in enumerate(groups):
            amounts = {kind: getattr(config, kind) for kind in kinds}
            self._panels.append(self._panel(amounts, number))
        for plot in self.ci.items:
            plot.setYLink(next(iter(self.ci.items)))
        self.colour_axes()
        self.setFixedHeight(max(170 * -(-len(groups) // 2), 60))

    def _panel(self, amounts, number):
        kinds = list(amounts)
        plot = self.addPlot(row=number // 2, col=number % 2, enableMenu=False)
        plot.hideButtons()
        plot.setMouseEnabled(False, False)
        plot.showGrid(y=True, alpha=0.2)
        plot.setLabel("left", "Dice")
        plot.setLabel("bottom", _x_label(kinds))
        plot.getAxis("left").enableAutoSIPrefix(False)
        if kinds[0] in report.NO_AMOUNT:
            ticks = [(number, "") for number in range(len(report.NO_AMOUNT))]
        else:
            places = {report.shown_amount(k, value) for k in kinds for value in amounts[k]}
            ticks = [(place, f"{place:g}") for place in sorted(places)]
        plot.getAxis("bottom").setTicks([ticks])
        margin = 0.1 * (ticks[-1][0] - ticks[0][0]) or 1
        plot.setXRange(ticks[0][0] - margin, ticks[-1][0] + margin)
        band = pg.LinearRegionItem(
            orientation="horizontal", movable=False, brush=FAINT, pen=pg.mkPen(None)
        )
        band.hide()
        plot.addItem(band)
        curves = {}
        for kind, colour in zip(kinds, cycle(COLOURS)):
            line = plot.plot(pen=pg.mkPen(colour, width=2), name=kind)
            points = pg.ScatterPlotItem(
                size=9, brush=colour, pen=None, hoverable=True, hoverSize=13, tip=_tip
            )
            points.sigClicked.connect(self._on_points)
            plot.addItem(points)
            curves[kind] = line, points
        return band, curves

    def draw(self, table: list[dict[str, Any]]) -> None:
        """Show the rows of a sweep, at most four times a second."""
        self._table = table
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self):
        found, clean = report.curves(self._table), report.clean_level(self._table)
        for band, curves in self._panels:
            if clean is not None:
                band.setRegion((clean[0] - report.CLOSE, clean[0] + report.CLOSE))
                band.show()
            for kind, (line, points) in curves.items():
                means = [
                    (report.shown_amount(kind, a), mean) for a, mean, _, _ in found.get(kind, [])
                ]
                if kind not in report.NO_AMOUNT:
                    line.setData(*np.reshape(means, (-1, 2)).T)
                points.setData(
                    [
                        {
                            "pos": (report.shown_amount(kind, row["amount"]), row["dice"]),
                            "data": _key(row),
                        }
                        for row in self._table
                        if row["kind"] == kind and row["dice"] is not None
                    ]
                )

    def _on_points(self, _item, points, _event=None):
        if len(points):
            self.clicked.emit(points[0].data())


def _x_label(kinds):
    """What the amounts of a panel are; several kinds in the colours of their points."""
    if len(kinds) == 1:
        return report.x_label(kinds)
    unit = report.UNITS[kinds[0]][1]
    kinds = [report.AXES[kind].label if kind in report.NO_AMOUNT else kind for kind in kinds]
    return in_colours(kinds) + (f" [{unit}]" if unit else "")


def _tip(x, y, data):
    kind, amount, seed = data
    return f"{kind} {'' if amount is None else f'{amount:g}'} seed {seed}: Dice {y:.3f}"

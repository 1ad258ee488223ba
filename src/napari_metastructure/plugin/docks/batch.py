"""Dock widget: a model, or recorded steps, on each file of a folder."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem

from napari_metastructure.files.read import read
from napari_metastructure.files.records import read_record, record_path
from napari_metastructure.jobs.events import FileDone, Result
from napari_metastructure.labels.objects import ObjectsConfig, features
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.again import SayAgain, as_call, config_code, import_of
from napari_metastructure.plugin.parts.dock import Dock, note, say, section
from napari_metastructure.plugin.parts.form import Form, device_choices, device_default
from napari_metastructure.plugin.parts.long_names import as_html
from napari_metastructure.plugin.parts.path_edit import PathEdit
from napari_metastructure.plugin.parts.run_panel import RunPanel, late_job, notify_error
from napari_metastructure.plugin.readers import layer_of
from napari_metastructure.runs.batch import OUTPUTS, Files, check_folder, plan, source_role
from napari_metastructure.words import counted

__all__ = ["RunBatch"]

_OBJECTS = (
    "smoothing",
    "fill_holes",
    "method",
    "split_depth",
    "min_size",
    "max_size",
    "drop_border",
)
_TOOLTIPS = {
    "probabilities": "Also write the probability of each pixel.",
    "objects": "Also write labels with one number for each object.",
    "table": "Measure the objects of all files, with file and group in each row.",
}
_KINDS = {"probabilities": "image", "density": "image"}  # of layers; the others are labels
_WAITING, _UNDER_WAY = "waiting", "under way …"
_ROWS = 8  # of failures that are listed below the button


class RunBatch(Dock):
    """Repeat a model or recorded steps on a folder of images, and open the results from a list.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    batch : runs.batch.Batch or None
        What the last run gave.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.batch: Any = None
        self._rows: dict[str, dict] = {}
        self._running: Any = None  # files, steps, folder of results
        self._found = self._looked_through = None
        self._build_inputs()
        self._build_run()
        self.reset_choices()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        self.images = PathEdit(
            name="images",
            label="Images",
            mode="d",
            nullable=True,
            value=None,
            tooltip="A folder. Its subfolders become groups, such as conditions.",
        )
        self.steps = PathEdit(
            name="steps",
            label="Model or records",
            mode="rm",
            filter="Models and records (*.safetensors *.zip *.record.json)",
            nullable=True,
            value=None,
            tooltip="What to do with each file: apply a model, or repeat one or more records of "
            "earlier results.",
        )
        self.results = PathEdit(
            name="results",
            label="Results",
            mode="d",
            nullable=True,
            value=None,
            tooltip="A new folder, or the folder of a stopped batch, to continue it.",
        )
        self.device = ComboBox(
            name="device",
            label="Device",
            choices=device_choices(),
            value=device_default(),
            tooltip="Where to compute; auto: as in the records.",
        )
        self.about_steps, self.about_results = note(), note()
        self.form = self.add(Form().add(self.images, self.steps))
        self.form.layout().addRow(self.about_steps)
        self.form.add(self.results)
        self.form.layout().addRow(self.about_results)
        self.form.add(self.device)
        for name, text in OUTPUTS.items():
            box = CheckBox(name=name, text=text, tooltip=_TOOLTIPS[name], value=name == "table")
            self.form.add(box)
        self.objects = Form().add_fields(ObjectsConfig, _OBJECTS)
        self.add(section("Objects", self.objects))
        self.about = self.add(note())
        for form in (self.form, self.objects):
            form.changed.connect(self._check)

    def _build_run(self):
        self.panel = self.add(RunPanel("Run batch"))
        command = "batch IMAGES STEPS -o results"
        self.again = self.add(SayAgain(self, self.python, self.config, command))
        self.summary = self.add(note())
        self.list = QTreeWidget()
        self.list.setHeaderLabels(["File", "State"])
        self.list.setRootIsDecorated(False)
        self.list.setUniformRowHeights(True)
        self.list.setMinimumHeight(200)
        self.list.setToolTip("Double-click a file to open it with its results.")
        self.add(self.list)
        self.list.hide()
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._check)
        self.list.itemActivated.connect(lambda item: self.open(item.text(0)))

    # ------------------------------------------------------------------ inputs

    def config(self) -> ObjectsConfig:
        """How labels are split into objects, as the form shows it."""
        return ObjectsConfig(**self.objects.values())

    def reset_choices(self, event: Any = None) -> None:
        """A batch takes files, not layers; so it needs no sample."""
        super().reset_choices(event)
        self.sample_button.hide()
        self._check()

    def problem(self) -> str | None:
        """Why the batch cannot start; None if it can."""
        try:
            self._prepared()
        except (ValueError, OSError) as error:
            return self.in_words(error)
        return None

    def _prepared(self):
        """The files, the steps and the folder of results."""
        results = _chosen(self.results)
        if _chosen(self.images) is None:
            raise ValueError("Choose a folder of images.")
        if not self._sources():
            self._files()  # says so at once if there is no image
            raise ValueError("Choose a model, or records of earlier runs, to apply to the images.")
        if results is None:
            raise ValueError("Choose a folder for the results.")
        steps = self._plan()
        if self._of_results(steps):
            raise ValueError("Choose another folder for the results.")
        return self._files(source_role(steps)), steps, results

    def _files(self, role="images"):
        """The files, looked for where the boxes show other folders than before."""
        key = _chosen(self.images), _chosen(self.results), role
        if key != self._looked_through:
            self._found, self._looked_through = Files(*key), key
        return self._found

    def _plan(self):
        return plan(self._sources(), self._outputs(), objects=self.config(), device=self._device())

    def _of_results(self, steps=None):
        """Why the folder cannot take the results; None if it can."""
        folder = _chosen(self.results)
        try:
            check_folder(folder, steps) if folder else None
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def _sources(self):
        return [str(path) for path in self.steps.value or () if str(path) != "."]

    def _outputs(self):
        return tuple(name for name in OUTPUTS if self.form[name].value)

    def _device(self):
        return None if self.device.value == "auto" else self.device.value

    def _check(self):
        if self.panel.running:
            return
        problem = of_results = None
        try:
            files, steps, _ = self._prepared()
        except (ValueError, OSError) as error:
            problem, files = self.in_words(error), self._images_alone()
            steps = self._plan_alone()
            of_results = self._of_results(steps)
        self.panel.set_problem(problem)
        names = " → ".join(step.operation for step in steps or ())
        say(self.about_steps, names and f"For each file: {names}.")
        say(self.about, files and " ".join([_described(files), *files.notes]))
        say(self.about_results, of_results)

    def _plan_alone(self):
        """The steps, while the rest is not chosen yet; None if there are none."""
        try:
            return self._plan() if self._sources() else None
        except (ValueError, OSError):
            return None

    def _images_alone(self):
        """The files, while the rest is not chosen yet; None if there are none."""
        try:
            return self._files()
        except (ValueError, OSError, TypeError):
            return None

    def python(self) -> list[str]:
        """The next run as Python code."""
        config, device = self.config(), self._device()
        steps = {"objects": config} if config.model_fields_set else {}
        code = as_call(
            "steps = plan",
            repr(self._sources()),
            repr(self._outputs()),
            *(f"objects={config_code(config)}" for _ in steps),
            **({} if device is None else {"device": device}),
        )
        places = [repr(str(_chosen(box))) for box in (self.images, self.results)]
        return [
            import_of(config),
            "from napari_metastructure.runs.batch import batch, plan",
            code,
            as_call("found = batch", places[0], "steps", places[1]) + ".run()",
            "print(found.summary)",
        ]

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Run the batch in the background."""
        self._looked_through = None  # there may be more by now
        files, steps, results = self._prepared()
        job = late_job(
            "napari_metastructure.runs.batch:batch",
            images=_chosen(self.images),
            steps=steps,
            folder=results,
        )
        self._running, self._rows = (files, steps, results), {}
        self._show_files()
        self._show_next(0)
        say(self.summary, None)
        self.panel.start(job, "Batch")

    def _show_files(self):
        """A line for each file."""
        self.list.clear()
        for name in self._running[0].names:
            self.list.addTopLevelItem(QTreeWidgetItem([name, _WAITING]))
        for number, row in enumerate(self._rows.values()):
            self._show_state(self.list.topLevelItem(number), row)
        self.list.resizeColumnToContents(0)
        self.list.show()

    def _show_next(self, number, state=_UNDER_WAY):
        """Mark the file that is dealt with now: it may take long."""
        if number < self.list.topLevelItemCount():
            self.list.topLevelItem(number).setText(1, state)

    def _show_state(self, item, row):
        item.setText(1, _state(row))
        said = "\n".join([row["error"] or "", *row["notes"]]).strip()
        item.setToolTip(1, as_html(said))

    def _on_event(self, event):
        if isinstance(event, FileDone):
            self._rows[event.row["file"]] = event.row
            item = self.list.topLevelItem(event.done - 1)
            self._show_state(item, event.row)
            self.list.scrollToItem(item)
            self._show_next(event.done)
        elif isinstance(event, Result):
            self.batch = event.value
            self._show_next(len(self.batch.rows), _WAITING)
            self._summarise()

    def _summarise(self):
        lines = self.batch.summary.split("\n")
        more = len(lines) - _ROWS
        lines = lines[:_ROWS] + [f"… and {more} more, see the list."] * (more > 0)
        tables = [f"All objects are in {path}." for path in self.batch.tables[:1]]
        say(self.summary, "\n".join([*lines, *tables]))

    def under_way(self) -> str:
        """What of a running batch is not kept yet: the results of the other files are."""
        return "the results of the present file"

    def kept(self) -> Any:
        """The last batch that ended."""
        return None if self.batch is None or self.panel.running else (self._running, self.batch)

    def bring_back(self, kept: Any) -> None:
        """Show the last batch and its files again."""
        self._running, self.batch = kept
        self._rows = {row["file"]: row for row in self.batch.rows}
        self._show_files()
        self._summarise()

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()

    # ------------------------------------------------------------------ results

    def open(self, file: str) -> None:
        """Add a file and its results as layers.

        Parameters
        ----------
        file : str
            Its name in the list.
        """
        row = self._rows.get(file)
        if row is None or row["error"]:
            notify_error(f"{file}: {row['error'] if row else 'not done yet.'}")
            return
        files, steps, results = self._running
        source = files.paths[files.names.index(file)]
        kind = "image" if "images" in steps[0].inputs else "labels"
        try:
            self._add(source, file, kind)
            for name, path in row["outputs"].items():
                if not path.endswith((".csv", ".safetensors")):
                    self._add(results / path, f"{file} {name}", _KINDS.get(name, "labels"), row)
        except (ValueError, OSError) as error:
            notify_error(error)

    def _add(self, path, name, kind, row=None):
        """A layer of a file, unless there is one of that name."""
        if name in self.viewer.layers:
            self.viewer.layers.selection.active = self.viewer.layers[name]
            return
        pixels = read(path)
        layer = Layer.create(*layer_of(pixels.data, pixels, name, kind))
        if row is not None:
            layer.metadata = {**layer.metadata, RECORD: read_record(record_path(path))}
            if name.endswith(" objects"):
                self._add_features(layer, row)
            hidden = (
                {"probabilities", "labels"} if "objects" in row["outputs"] else {"probabilities"}
            )
            layer.visible = name.rsplit(" ", 1)[-1] not in hidden
        self.viewer.add_layer(layer)

    def _add_features(self, layer, row):
        import pandas as pd

        table = pd.read_csv(self._running[2] / row["outputs"]["tables"])
        layer.features = features(table, int(np.max(layer.data, initial=0)))


def _chosen(box):
    """The folder in a box; None if it is empty."""
    return None if box.value is None or str(box.value) in ("", ".") else Path(box.value)


def _described(files):
    """How many images there are, and how many in each group."""
    groups = Counter(files.group(number) for number in range(len(files.names)))
    text = counted(len(files.names), "image")
    if len(groups) > 1:
        listed = [f"{name or 'no group'} ({count})" for name, count in groups.items()]
        text += f" in {len(groups)} groups: {', '.join(listed[:6])}{', …' * (len(listed) > 6)}"
    return f"{text}."


def _state(row):
    if row["error"]:
        return f"failed: {row['error']}"
    return f"done, {counted(row['objects'], 'object')}" if "objects" in row else "done"

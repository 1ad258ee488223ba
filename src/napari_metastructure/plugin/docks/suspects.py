"""Dock widget: where labels are probably wrong; go there, accept or reject."""

from typing import Any

import numpy as np
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)

from napari_metastructure.jobs.events import Result
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.plugin.keys import with_key
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.again import (
    SayAgain,
    config_code,
    layer_code,
    source_code,
)
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.model_panel import (
    annotation_of,
    is_image,
    is_labels,
    is_trainable,
)
from napari_metastructure.plugin.parts.run_panel import RunPanel, late_job

__all__ = ["FindSuspects"]

_FIELDS = ("network", "epochs", "channels", "as_mask", "device", "seed")
_SHOWN = 500  # rows of the table
_WORDS = {True: "accepted", False: "rejected", None: ""}
_COLUMNS = ("rank", "kind", "image", "decision", "area", "confidence")
_SEARCH = (  # what a search found, and what became of it
    "suspects",
    "decisions",
    "_regions",
    "_corrected",
    "_made",
    "_source",
    "_drawn",
    "_planes",
    "_numbered",
)


class FindSuspects(Dock):
    """Rank the regions where labels are probably wrong, and correct those that are accepted.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    suspects : Suspects or None
        Those of the last run.
    decisions : dict of int to bool
        By rank, whether a suspect was accepted.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.suspects: Any = None
        self.decisions: dict[int, bool] = {}
        self._regions: Any = None
        self._corrected: Any = None
        self._made: Any = None  # the corrected labels without what was painted on them
        self.image = self.choose_layer(
            "image", "Image", is_image, tooltip="A stack of two planes or more.", follows=is_image
        )
        self.labels = self.choose_layer(
            "labels",
            "Labels",
            is_labels,
            tooltip="Labels that may hold errors, drawn as regions.",
            follows=is_trainable,
            suggest=lambda: annotation_of(self.image, self.labels),
        )
        self.inputs = self.add(Form().add(self.image, self.labels))
        self.reading = self.add(InputForm(self, "trained"))
        self.form = self.add(Form().add_fields(TrainingConfig, _FIELDS))
        self.panel = self.add(RunPanel("Find suspects"))
        self.again = self.add(SayAgain(self, self.python))
        self.about = self.add(note())
        self.table = self.add(QTableWidget(0, len(_COLUMNS)))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        fit = QHeaderView.ResizeMode.ResizeToContents  # so that a decision can be seen
        self.table.horizontalHeader().setSectionResizeMode(fit)
        self.table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.table.verticalHeader().hide()  # would say the rank again
        self.table.setToolTip(
            with_key("Click on a row to go there; the key goes to the next.", "next_place")
        )
        self.accept_button = self.add(QPushButton("Accept"))
        self.accept_button.setToolTip("The labels are wrong here: correct them in a new layer.")
        self.reject_button = self.add(QPushButton("Reject"))
        self.reject_button.setToolTip("The labels are right here.")
        for form in (self.inputs, self.reading, self.form):
            form.changed.connect(self._check)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.table.itemSelectionChanged.connect(self._on_selection)
        self.accept_button.clicked.connect(lambda: self.decide(True))
        self.reject_button.clicked.connect(lambda: self.decide(False))
        self._on_selection()
        self.reset_choices()

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()

    def problem(self) -> str | None:
        """Why nothing can be looked for; None if it can."""
        image, labels = self.image.value, self.labels.value
        if image is None or labels is None:
            return self.no_labels("Add an Image layer and a Labels layer.")
        source = self.reading.source(image)
        if not source.fits(labels):
            return f"{labels.name} does not have the shape of {image.name}."
        if np.prod(source.shape[: -source.layout.spatial_dims], dtype=int) < 2:
            planes = " Or choose 2-D, for its planes." if source.layout.spatial_dims == 3 else ""
            return (
                "Choose a stack of at least two images: a network trained on one half checks "
                f"the other.{planes}"
            )
        try:
            self.config()
        except ValueError as error:
            return self.in_words(error)
        return None

    def _check(self) -> None:
        self.reading.show_layer(self.image.value, self.labels.value)
        self.panel.set_problem(self.problem())

    def actions(self) -> dict[str, Any]:
        """What the keys do while the dock is in front."""
        own = {"next_place": self.go_on, "toggle_overlay": self.toggle_regions}
        return super().actions() | own

    def go_on(self) -> None:
        """Go to the next suspect of the table."""
        row = self.table.currentRow() + 1
        if row < self.table.rowCount():
            self.table.selectRow(row)

    def toggle_regions(self) -> None:
        """Show or hide the regions."""
        if self._regions is not None:
            self._regions.visible = not self._regions.visible

    def run(self) -> None:
        """Look for suspects in the background."""
        source = self.reading.source(self.image.value)
        images, labels = source.canonical, source.labels(self.labels.value)
        leading = len(source.shape) - source.layout.spatial_dims
        planes = list(np.asarray(labels).reshape(-1, *labels.shape[leading:]))
        config = self.config()
        self._searched = source, self.labels.value, planes, config.as_mask
        job = late_job(
            "napari_metastructure.learning.suspects:find_suspects",
            images=list(images.reshape(-1, *images.shape[leading:])),
            labels=planes,
            config=config,
        )
        self.panel.start(job, "Search for suspects")

    def config(self) -> TrainingConfig:
        """The `TrainingConfig` that the forms show."""
        values = self.reading.values()
        if self.reading.source(self.image.value).layout.input_axis is not None:
            values["channel_axis"] = 0
        return TrainingConfig(**self.form.values(), **values)

    def python(self) -> list[str]:
        """The next run as Python code."""
        source = self.reading.source(self.image.value)
        leading = len(source.shape) - source.layout.spatial_dims
        planes = f"list({{0}}.reshape(-1, *{{0}}.shape[{leading}:]))"
        return [
            "import numpy as np",
            "from napari_metastructure.plugin.layers import Source",
            source_code("image", self.image.value, self.reading),
            f"labels = np.asarray(image.labels({layer_code(self.labels.value)}))",
            f"config = nms.{config_code(self.config())}",
            f"images = {planes.format('image.canonical')}",
            f"planes = {planes.format('labels')}",
            "suspects = nms.find_suspects(images, planes, config).run()",
            "regions = image.shaped(np.stack(suspects.regions).reshape(image.shape))",
            "viewer.add_labels(regions, name='suspects', **image.place())",
            "print(suspects.table)",
        ]

    def _on_event(self, event: Any) -> None:
        if not isinstance(event, Result) or event.value is None:
            return
        self.suspects, self.decisions, self._corrected = event.value, {}, None
        self._source, self._drawn, self._planes, self._numbered = self._searched
        self._regions = self._add(self._shaped(self.suspects.regions), "suspects")
        self._regions.contour = 1  # outlines, so that the image is seen in them
        self._fill()

    def _shaped(self, planes: Any) -> Any:
        """Planes as the data of a layer."""
        return self._source.shaped(np.stack(planes).reshape(self._source.shape))

    def _add(self, data: Any, what: str) -> Any:
        source = self._source
        operation = "suspects" if what == "suspects" else "corrections"
        return self.viewer.add_labels(
            data,
            name=f"{self._drawn.name} ({what})",
            metadata={RECORD: {"operation": operation, "source": self._drawn.name}},
            **source.place(),
        )

    def _fill(self) -> None:
        rows = self.suspects.table.head(_SHOWN)
        counts = self.suspects.table["kind"].value_counts()
        found = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
        say(
            self.about,
            f"Most suspicious first: {found}. Click on a row to go there."
            if found
            else "No suspects: the networks agree with the labels everywhere.",
        )
        self.table.clearSelection()
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows.to_dict("records")):
            row["decision"] = _WORDS[self.decisions.get(row["rank"])]
            for column, name in enumerate(_COLUMNS):
                self.table.setItem(number, column, QTableWidgetItem(str(row[name])))

    def _selected(self) -> list[int]:
        return sorted({index.row() for index in self.table.selectedIndexes()})

    def _on_selection(self):
        for button in (self.accept_button, self.reject_button):
            button.setEnabled(bool(self._selected()))
        self._go()

    def _go(self) -> None:
        """Show the place of the first selected suspect."""
        rows = self._selected()
        if not rows:
            return
        row, source = self.suspects.table.iloc[rows[0]], self._source
        region = np.argwhere(self.suspects.regions[row["image"]] == row["rank"])
        inside = region[len(region) // 2]  # of a ring, the centre is not
        leading = source.shape[: -source.layout.spatial_dims]
        source.show([*np.unravel_index(row["image"], leading), *inside], self.viewer)

    def decide(self, accepted: bool) -> None:
        """Accept or reject the selected suspects; accepted ones are corrected in a new layer.

        Parameters
        ----------
        accepted : bool
        """
        from napari_metastructure.learning.suspects import correct

        rows = self._selected()
        if self.suspects is None or not rows:
            return
        for row in rows:
            self.decisions[row + 1] = accepted
            self.table.item(row, _COLUMNS.index("decision")).setText(_WORDS[accepted])
        chosen = [rank for rank, yes in self.decisions.items() if yes]
        data = correct(self._planes, self.suspects, chosen, numbered=self._numbered)
        data = self._shaped(data)
        if self._corrected in self.viewer.layers:  # what was painted on it elsewhere stays
            self._corrected.data = np.where(data != self._made, data, self._corrected.data)
        elif chosen:
            self._corrected = self._add(data.copy(), "corrected")
            self._drawn.visible = False  # would be seen where objects are taken away
            layers = self.viewer.layers
            if self._regions in layers:  # above, as before
                layers.move(layers.index(self._regions), len(layers))
        self._made = data

    def kept(self) -> Any:
        """The last search and the decisions."""
        return None if self.suspects is None else {name: getattr(self, name) for name in _SEARCH}

    def bring_back(self, kept: Any) -> None:
        """Show the last search and the decisions again."""
        for name, value in kept.items():
            setattr(self, name, value)
        self._fill()

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()

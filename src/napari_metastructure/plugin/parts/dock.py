"""What all our dock widgets share: scrolling, layer choices, and cleaning up when closed."""

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox
from napari import Viewer
from napari.layers import Layer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

__all__ = ["Dock", "note", "say", "section"]

_NARROWEST = 320


class _Column(QScrollArea):
    """Scrolls up and down only, and is always as wide as its content."""

    def minimumSizeHint(self):
        hint, bar = super().minimumSizeHint(), self.verticalScrollBar()
        beside = bar.sizeHint().width()
        if bar.isVisible():  # style sheets add what no hint tells
            beside = self.width() - self.viewport().width()
        hint.setWidth(max(self.widget().minimumSizeHint().width() + beside, _NARROWEST))
        return hint

    def eventFilter(self, watched, event):
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()  # rows that appear may need more width
        return super().eventFilter(watched, event)

    def resizeEvent(self, event):
        super().resizeEvent(event)
        self.updateGeometry()  # the scroll bar may have come or gone


class Dock(QWidget):
    """A scrolling column of widgets that knows its viewer.

    While the viewer is empty it offers a sample; beside another of our docks it becomes a tab.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    sample = "er"
    """Key of the sample, in ``napari.yaml``, that suits the dock."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._choices = []
        self._apart = []
        self._has_place = False
        self._placed = QTimer(self)
        self._placed.setSingleShot(True)
        self._placed.timeout.connect(self._share_tab)
        column = QWidget()
        self.column = QVBoxLayout(column)
        self.column.setContentsMargins(6, 6, 6, 6)
        self.column.setAlignment(Qt.AlignmentFlag.AlignTop)
        scroll = _Column()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(column)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.sample_button = self.add(QPushButton("No layers yet: open a sample"))
        self.sample_button.setToolTip("A simulated image set with its exact labels.")
        self.sample_button.clicked.connect(self._open_sample)

    def add(self, widget: Any) -> Any:
        """Append a Qt or magicgui widget to the column."""
        self.column.addWidget(getattr(widget, "native", widget))
        return widget

    def choose_layer(
        self,
        name: str,
        label: str,
        accepts: Callable[[Layer], bool],
        *,
        tooltip: str = "",
        optional: bool = False,
        unlike: ComboBox | None = None,
    ) -> ComboBox:
        """A combo box of the viewer's layers for which ``accepts(layer)`` holds.

        While there is another choice it does not start with the layer of the box `unlike`.
        """

        def layers(_box):
            return [(layer.name, layer) for layer in self.viewer.layers if accepts(layer)]

        box = ComboBox(name=name, label=label, choices=layers, tooltip=tooltip, nullable=optional)
        self._choices.append(box)
        if unlike is not None:
            self._apart.append((box, unlike))
        return box

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now, and keep what was chosen."""
        for box in self._choices:
            box.reset_choices()
        for box, other in self._apart:
            others = [layer for layer in box.choices if layer is not other.value]
            if box.value is other.value and others:
                box.value = others[0]
        self.sample_button.setVisible(not len(self.viewer.layers))

    def event(self, event: QEvent) -> bool:
        """Clean up when the dock's close button takes the widget out of the window."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.closed()
            else:
                self._placed.start()
        return super().event(event)

    def closed(self) -> None:
        """Called when the dock was closed; nothing to clean up by default."""

    def _share_tab(self):
        """Become a tab of another of our docks in the same place, rather than squeeze it."""
        own = self._frame()
        if own is None or own.isFloating():
            return
        window, area = own.parent(), own.parent().dockWidgetArea(own)
        for dock in window.findChildren(Dock):
            other = dock._frame()
            if dock is self or other is None or other.isFloating():
                continue
            if dock._has_place and window.dockWidgetArea(other) == area:
                window.tabifyDockWidget(other, own)
                break
        self._has_place = True
        own.raise_()

    def _frame(self):
        """The dock widget of the main window that this one is in; None if there is none."""
        frame = self.parent()
        while frame is not None and not isinstance(frame, QDockWidget):
            frame = frame.parent()
        return frame if frame is not None and isinstance(frame.parent(), QMainWindow) else None

    def _open_sample(self):
        self.viewer.open_sample("napari-metastructure", self.sample)


def note() -> QLabel:
    """A line of text that wraps."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.hide()
    return label


def say(label: QLabel, text: str | None) -> None:
    """Show a text in a `note`, or hide the note when there is none."""
    label.setText(text or "")
    label.setVisible(bool(text))


def section(title: str, *widgets: Any, expanded: bool = False) -> QCollapsible:
    """A collapsible group of widgets."""
    group = QCollapsible(title)
    group.setDuration(0)
    for widget in widgets:
        group.addWidget(getattr(widget, "native", widget))
    group.expand(animate=False) if expanded else group.collapse(animate=False)
    return group

"""What all our dock widgets share: scrolling, layer choices, and cleaning up when closed."""

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

__all__ = ["Dock", "note", "say", "section"]

_NARROWEST = 320


class _Column(QScrollArea):
    """Scrolls up and down only, and is always as wide as its content."""

    def minimumSizeHint(self):
        hint = super().minimumSizeHint()
        needed = (
            self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        )
        hint.setWidth(max(needed, _NARROWEST))
        return hint


class Dock(QWidget):
    """A scrolling column of widgets that knows its viewer.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer):
        super().__init__()
        self.viewer = viewer
        self._choices = []
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

    def add(self, widget):
        """Append a Qt or magicgui widget to the column."""
        self.column.addWidget(getattr(widget, "native", widget))
        return widget

    def choose_layer(self, name, label, accepts, *, tooltip="", optional=False):
        """A combo box of the viewer's layers for which ``accepts(layer)`` holds."""

        def layers(_box):
            return [(layer.name, layer) for layer in self.viewer.layers if accepts(layer)]

        box = ComboBox(name=name, label=label, choices=layers, tooltip=tooltip, nullable=optional)
        self._choices.append(box)
        return box

    def reset_choices(self, event=None):
        """Offer the layers that are there now, and keep what was chosen."""
        for box in self._choices:
            box.reset_choices()

    def event(self, event):
        """Clean up when the dock's close button takes the widget out of the window."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.closed()
        return super().event(event)

    def closed(self):
        """Called when the dock was closed; nothing to clean up by default."""


def note():
    """A line of text that wraps."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.hide()
    return label


def say(label, text):
    """Show a text in a `note`, or hide the note when there is none."""
    label.setText(text or "")
    label.setVisible(bool(text))


def section(title, *widgets, expanded=False):
    """A collapsible group of widgets."""
    group = QCollapsible(title)
    group.setDuration(0)
    for widget in widgets:
        group.addWidget(getattr(widget, "native", widget))
    group.expand(animate=False) if expanded else group.collapse(animate=False)
    return group

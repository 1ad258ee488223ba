"""What all our dock widgets share: scrolling, layer choices, and cleaning up when closed."""

import re
from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary

from magicgui.widgets import ComboBox
from napari import Viewer
from napari.layers import Layer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QApplication,
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

from napari_metastructure.plugin.keys import bind_keys
from napari_metastructure.plugin.layers import made_by, unwrapped
from napari_metastructure.plugin.parts.closing import guard, may_close
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.layer_choices import LayerChoices
from napari_metastructure.plugin.parts.live import LIVE
from napari_metastructure.plugin.parts.long_names import WrappedLabel, breakable, keep_narrow
from napari_metastructure.plugin.parts.pauses import take_back, take_back_for

__all__ = ["Dock", "note", "say", "section"]

_NARROWEST = 320
_KEPT: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()  # of closed docks, by window


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
    Closed and opened again it shows what was there; a job or a model that would be lost is asked
    about first, with the window too.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    sample = "er"
    """Key of the sample, in ``napari.yaml``, that suits the dock."""
    panel: Any = None
    """The `RunPanel` of the dock, if it runs something."""
    models: Any = None
    """The `ModelPanel` of the dock, if it has one."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._choices = LayerChoices()
        self._has_place = False
        self._placed = QTimer(self)
        self._placed.setSingleShot(True)
        self._placed.timeout.connect(self._share_tab)
        self._seeking = QTimer(self, interval=0, singleShot=True)
        self._seeking.timeout.connect(self._seek)
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
        self._choices.active = unwrapped(viewer.layers.selection.active)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.layers.events.removing.connect(take_back_for)

    def no_labels(self, sentence: str, *, one_level: bool = False) -> str:
        """What to say where labels are missing, and an image may be a mask.

        Parameters
        ----------
        sentence : str
        one_level : bool
            Multiscale labels are not offered.
        """
        from napari.layers import Image, Labels

        levels = (isinstance(one, Labels) and one.multiscale for one in self.viewer.layers)
        if one_level and any(levels):
            sentence += " Multiscale labels cannot be used; add one of their levels as a layer."
        if not any(isinstance(layer, Image) for layer in self.viewer.layers):
            return sentence
        return (
            f"{sentence} If a mask was opened as an image, right-click its layer and choose "
            "Convert to Labels."
        )

    def in_words(self, error: Exception) -> str:
        """An error of a parameter model in the words of the forms."""
        sentence = re.sub(r"^\w+(Config|Spec): ", "", str(error))
        for form in self.findChildren(Form):
            sentence = form.in_words(sentence)
        return sentence

    def add(self, widget: Any) -> Any:
        """Append a Qt or magicgui widget to the column."""
        self.column.addWidget(getattr(widget, "native", widget))
        return widget

    def bring_into_view(self, widget: QWidget) -> None:
        """Scroll to a part of the column, once it has its place."""
        self._sought = widget
        self._seeking.start()

    def _seek(self):
        self.findChild(_Column).ensureWidgetVisible(self._sought)

    def choose_layer(
        self,
        name: str,
        label: str,
        accepts: Callable[[Layer], bool],
        *,
        tooltip: str = "",
        optional: bool = False,
        unlike: ComboBox | None = None,
        follows: Callable[[Layer], bool] | None = None,
        suggest: Callable[[], Layer | None] | None = None,
    ) -> ComboBox:
        """A combo box of the viewer's layers for which ``accepts(layer)`` holds.

        Until the user chooses in it, it takes the layer that becomes active if ``follows(layer)``
        holds, or else the one that ``suggest()`` gives; and while there is another choice not the
        layer of the box `unlike`.
        """

        def layers(_box):
            found = [layer for layer in self.viewer.layers if accepts(layer)]
            return [(layer.name, layer) for layer in found if made_by(layer) != LIVE]

        box = ComboBox(name=name, label=label, choices=layers, tooltip=tooltip, nullable=optional)
        keep_narrow(box.native)
        self._choices.add(box, unlike=unlike, follows=follows, suggest=suggest)
        return box

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now, and keep what was chosen."""
        self._choices.offer()
        self.sample_button.setVisible(not len(self.viewer.layers))

    def hold_choices(self) -> None:
        """Keep the layers that the boxes show, as if the user had chosen each of them."""
        self._choices.hold()

    def _on_active(self, event):
        layer = event.value
        running = self.panel is not None and self.panel.running
        if layer is None or running or not self._has_place or made_by(layer) == LIVE:
            return
        self._choices.active = layer
        self.reset_choices()

    def event(self, event: QEvent) -> bool:
        """Clean up when the dock's close button takes the widget out of the window."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self._has_place = False
                self._give_keys_back()
                self._keep()
                self.closed()
                take_back()
            else:
                self._bring_back()
                self._placed.start()
        return super().event(event)

    def closed(self) -> None:
        """Called when the dock was closed; nothing to clean up by default."""

    def covered(self) -> None:
        """Called when another tab comes in front of the dock; nothing to do by default."""

    def uncovered(self) -> None:
        """Called when the dock was opened, or comes in front; nothing to do by default."""

    @property
    def in_front(self) -> bool:
        """Whether the dock can be seen; `isVisible` is true of tabs at the back, too."""
        return self.isVisible() and not self.visibleRegion().isEmpty()

    def _on_visible(self, visible):
        self.uncovered() if visible else self.covered()

    # ------------------------------------------------------------------ keys

    def actions(self) -> dict[str, Callable[[], Any]]:
        """What the keys in `keys.KEYS` do while the dock is in front, by action."""
        found: dict[str, Callable[[], Any]] = {"toggle_overlay": self.toggle_previews}
        if self.panel is not None:
            found |= {"run": self.panel.run_button.click, "stop": self.panel.stop}
        return found

    def toggle_previews(self) -> None:
        """Show or hide the layers that are drawn again and again."""
        for layer in self.viewer.layers:
            if made_by(layer) == LIVE:
                layer.visible = not layer.visible

    def _act(self, name):
        """Do what a key stands for, in that of our docks which is in front."""
        docks = unwrapped(self.viewer.window)._qt_window.findChildren(Dock)
        seen = [dock for dock in docks if not dock.visibleRegion().isEmpty()]
        for dock in sorted(seen, key=lambda dock: not dock._has_focus()):
            if name in dock.actions():
                dock.actions()[name]()
                return

    def _give_keys_back(self):
        """The keys go to another of our docks; with the last one they go."""
        window = unwrapped(self.viewer.window)._qt_window
        others = [dock for dock in window.findChildren(Dock) if dock is not self]
        bind_keys(self.viewer, others[0]._act if others else None)

    def _has_focus(self):
        focus = QApplication.focusWidget()
        return focus is not None and self.isAncestorOf(focus)

    # ------------------------------------------------------------------ closing

    def unfinished(self) -> list[str]:
        """What would be lost if the dock were closed now, as sentences."""
        lost = []
        if self.panel is not None and self.panel.running:
            state = "paused" if self.panel.paused else "running"
            what = self.under_way()
            lost.append(f"{self.panel.description} is {state}; {what} would be lost.")
        if self.models is not None and self.models.unsaved:
            lost.append(f"The model {self.models.name} is not saved.")
        return lost

    def under_way(self) -> str:
        """What of a running job is not kept yet."""
        return "its result"

    def end(self) -> None:
        """End what runs, without a result, as the window is gone."""
        if self.panel is not None:
            self.panel.let_go()
        take_back()

    def _ask_to_close(self):
        """What the close button of the dock does."""
        if may_close(self, self.unfinished()):
            self.viewer.window.remove_dock_widget(self._frame())

    def _keep(self):
        """Remember the settings, the model and the rest until the dock is opened again."""
        kept = _KEPT.setdefault(unwrapped(self.viewer.window), {})
        forms = [form.kept() for form in self.findChildren(Form)]
        model = None if self.models is None else self.models.kept()
        kept[type(self).__name__] = forms, model, self.kept()

    def _bring_back(self):
        """Show what was there when the dock was closed."""
        of_window = _KEPT.get(unwrapped(self.viewer.window), {})
        forms, model, more = of_window.pop(type(self).__name__, ((), None, None))
        for form, kept in zip(self.findChildren(Form), forms):
            self.make_rows(form, kept)
            form.bring_back(kept)
        if forms:  # boxes whose layers have gone follow others again
            self._choices.hold([value for kept in forms for value in kept.values()])
        if model is not None:
            self.models.bring_back(model)
        if more is not None:
            self.bring_back(more)

    def kept(self) -> Any:
        """What else is needed to show the dock again as it is, such as results; None if nothing."""

    def bring_back(self, kept: Any) -> None:
        """Show again what was `kept`."""

    def make_rows(self, form: Form, names: Collection[str]) -> None:
        """Called before a form is filled in again, to make rows that the user had added to it.

        Parameters
        ----------
        form : Form
        names : collection of str
            Of its rows when the dock was closed.
        """

    # ------------------------------------------------------------------ place

    def _share_tab(self):
        """Become a tab of another of our docks in the same place, rather than squeeze it."""
        own = self._frame()
        if own is None:
            return
        own.destroyOnClose = self._ask_to_close  # napari's title bar calls it
        own.visibilityChanged.connect(self._on_visible)
        guard(own.parent(), Dock)
        bind_keys(self.viewer, self._act)
        if own.isFloating():
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
        self.uncovered()

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
    label = WrappedLabel()
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.hide()
    return label


def say(label: QLabel, text: str | None) -> None:
    """Show a text in a `note`, or hide the note when there is none."""
    label.setText(breakable(text or ""))
    label.setVisible(bool(text))


def section(title: str, *widgets: Any, expanded: bool = False) -> QCollapsible:
    """A collapsible group of widgets; its arrow is text, so that it has the colour of the theme."""
    group = QCollapsible(title, expandedIcon=QIcon(), collapsedIcon=QIcon())
    group.toggled.connect(lambda open_: group.setText(f"{'▾' if open_ else '▸'} {title}"))
    group.setDuration(0)
    for widget in widgets:
        group.addWidget(getattr(widget, "native", widget))
    group.expand(animate=False) if expanded else group.collapse(animate=False)
    return group

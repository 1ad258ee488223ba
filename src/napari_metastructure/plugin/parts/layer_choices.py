"""Which layers the boxes of a dock show: the active one, what goes with it, what was chosen."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Layer

from napari_metastructure.plugin.layers import unwrapped

__all__ = ["LayerChoices"]


@dataclass
class _Choice:
    """A box, and how it finds its layer until the user has chosen one."""

    box: ComboBox
    unlike: ComboBox | None
    follows: Callable[[Layer], bool] | None
    suggest: Callable[[], Layer | None] | None
    by_hand: bool = False


class LayerChoices:
    """The boxes of layers of one dock.

    Attributes
    ----------
    active : napari.layers.Layer or None
        What became active last, to be given to the first box that follows it.
    """

    def __init__(self) -> None:
        self.active: Layer | None = None
        self._choices: list[_Choice] = []
        self._arranging = False

    def add(self, box: ComboBox, **how: Any) -> None:
        """Take care of a box; `how` are ``unlike``, ``follows`` and ``suggest`` of `_Choice`."""
        choice = _Choice(box, **how)
        self._choices.append(choice)
        box.changed.connect(lambda: self._on_choice(choice))

    def offer(self) -> None:
        """Offer the layers that are there now, and keep what was chosen by hand."""
        self._arrange(again=True)

    def hold(self, among: Collection[Any] | None = None) -> None:
        """Keep the layers that the boxes show, as if the user had chosen each of them.

        Parameters
        ----------
        among : collection, optional
            Only these layers are kept.
        """
        for choice in self._choices:
            layer = choice.box.value
            known = among is None or any(unwrapped(layer) is unwrapped(one) for one in among)
            choice.by_hand = layer is not None and known

    def _on_choice(self, choice):
        """The user has chosen a layer: the box keeps it, others may go with it."""
        if not self._arranging:
            choice.by_hand = True
            self._arrange()

    def _arrange(self, again=False):
        if self._arranging:
            return
        self._arranging = True
        try:
            moved = [choice for choice in self._choices if again and not _reset(choice.box)]
            for choice in moved:  # once no box holds a layer that is gone
                choice.by_hand = False
                choice.box.changed.emit(choice.box.value)
            taken = self._follow()
            for choice in self._choices:
                if not choice.by_hand and choice is not taken:
                    _suggest(choice)
        finally:
            self._arranging = False

    def _follow(self):
        """Give the active layer to the first box that follows it; returns that choice."""
        layer, self.active = self.active, None
        for choice in self._choices if layer is not None else ():
            fits = choice.follows and layer in choice.box.choices and choice.follows(layer)
            if fits and not choice.by_hand:
                choice.box.value = layer
                return choice
        return None


def _reset(box):
    """Offer the layers that are there now, silently; returns whether the box keeps its layer.

    magicgui tells choices apart by their names, so of a renamed layer it would let go.
    """
    before = box.value
    with box.changed.blocked():
        box.reset_choices()
        if box.value is not before and before in box.choices:
            box.value = before
    return box.value is before


def _suggest(choice):
    """What goes with the other boxes; and not the layer of another box, if there is a choice."""
    box, other = choice.box, choice.unlike
    layer = choice.suggest() if choice.suggest else None
    if layer is not None and layer in box.choices:
        box.value = layer
    others = [one for one in box.choices if other is not None and one is not other.value]
    if other is not None and box.value is other.value and others:
        box.value = others[0]

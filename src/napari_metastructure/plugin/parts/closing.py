"""What happens before a window with our docks closes: the user is asked, and jobs end."""

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_metastructure.plugin.parts.long_names import as_html

__all__ = ["guard", "may_close"]


def may_close(parent: QWidget, lost: Sequence[str]) -> bool:
    """Whether the user wants to close although this is lost; nothing lost is not asked about.

    Parameters
    ----------
    parent : QWidget
        The question stands before it.
    lost : sequence of str
        Sentences, one for each thing.
    """
    if not lost:
        return True
    answer = QMessageBox.question(parent, "Close?", as_html("\n".join([*lost, "Close anyway?"])))
    return answer == QMessageBox.StandardButton.Yes


def guard(window: QMainWindow, kind: type) -> None:
    """Ask before the user closes a window with unfinished docks, and end their jobs then.

    A script that closes its viewer is not asked.

    Parameters
    ----------
    window : QMainWindow
    kind : type
        The class of the docks, with ``unfinished()`` and a `panel`.
    """
    if window.findChild(_Guard) is None:
        _Guard(window, kind)


class _Guard(QObject):
    """One for each window."""

    def __init__(self, window, kind):
        super().__init__(window)
        self.kind, self.closing = kind, False
        window.installEventFilter(self)
        closed = window.close

        def close(*arguments: Any, **options: Any) -> Any:
            """From napari's menu, which asks; Qt tells only of the window's own close button."""
            if options.get("confirm_need") and not self.asked():
                return None
            return closed(*arguments, **options)

        window.close = close

    def docks(self):
        return self.parent().findChildren(self.kind)

    def asked(self):
        lost = [sentence for dock in self.docks() for sentence in dock.unfinished()]
        return may_close(self.parent(), lost)

    def eventFilter(self, watched, event):
        """Ask when the window is to close; once it is gone, end what runs."""
        if event.type() == QEvent.Type.Close:
            self.closing = True
            if event.spontaneous() and not self.asked():
                event.ignore()
                return True
        elif event.type() == QEvent.Type.Hide and self.closing and not event.spontaneous():
            for dock in self.docks():
                dock.end()
        return False

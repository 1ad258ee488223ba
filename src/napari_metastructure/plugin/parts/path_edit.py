"""A box for paths."""

from typing import Any

from magicgui.widgets import FileEdit

__all__ = ["PathEdit"]


class PathEdit(FileEdit):
    """Tells of a path that is typed in once it is whole: at Enter, or when the box is left.

    At each key, folders on the way to the one that is meant would be looked through, ``/`` first.

    Parameters
    ----------
    **options
        As of `magicgui.widgets.FileEdit`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.line_edit.changed.disconnect()
        self.line_edit.changed.connect(self._on_text)
        self.line_edit.native.editingFinished.connect(self._on_finished)

    def _on_text(self):
        if not self.line_edit.native.isModified():  # not by keys
            self.changed.emit(self.value)

    def _on_finished(self):
        if self.line_edit.native.isModified():
            self.line_edit.native.setModified(False)
            self.changed.emit(self.value)

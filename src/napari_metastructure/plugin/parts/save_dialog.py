"""Ask where to save a file, and before another one is replaced."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_metastructure.plugin.parts.long_names import as_html

__all__ = ["ask_where"]


def ask_where(
    parent: QWidget, title: str, name: str, files: str, named: Callable[[str], Path]
) -> Path | None:
    """The path to save to; None if the user does not want to.

    The dialog asks only about the name that was typed; here the name with its ending is asked about
    too.

    Parameters
    ----------
    parent : QWidget
        The dialog stands before it.
    title : str
    name : str
        The dialog begins with it.
    files : str
        Such as ``"CSV (*.csv)"``.
    named : callable
        Gives a typed name the ending that is missing.
    """
    typed, _ = QFileDialog.getSaveFileName(parent, title, name, files)
    if not typed:
        return None
    path = named(typed)
    is_asked = str(path) == typed
    return path if is_asked or not path.exists() or _may_replace(parent, title, path) else None


def _may_replace(parent, title, path):
    question = as_html(f"{path.name} exists already. Replace it?")
    answer = QMessageBox.question(parent, title, question)
    return answer == QMessageBox.StandardButton.Yes

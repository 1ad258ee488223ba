"""Tables: a transition matrix as a heat map with numbers, and rows of scores."""

import csv
import io
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.utils.colormaps import AVAILABLE_COLORMAPS
from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtGui import QColor, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
)

__all__ = ["MatrixTable", "ScoreTable"]

_ROW = 24
_MOST_ROWS = 12
_NARROWEST = 44


class _Table(QTableWidget):
    """As high as its rows, as wide as its column; Ctrl+C copies all of it."""

    def __init__(self):
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.horizontalHeader().setMinimumSectionSize(_NARROWEST)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(_ROW)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.hide()

    def reshape(self, rows, columns):
        """Give the rows and columns these headers, and fill the cells with empty items."""
        self.setRowCount(len(rows))
        self.setColumnCount(len(columns))
        self.setVerticalHeaderLabels([str(row) for row in rows])
        self.setHorizontalHeaderLabels([str(column) for column in columns])
        for index in np.ndindex(len(rows), len(columns)):
            item = QTableWidgetItem()
            item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            self.setItem(*index, item)
        header = max(self.horizontalHeader().sizeHint().height(), _ROW)
        self.setFixedHeight(header + _ROW * min(len(rows), _MOST_ROWS) + 4)

    def keyPressEvent(self, event):
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def copy(self):
        """Put the table on the clipboard, for a spreadsheet."""
        QApplication.clipboard().setText(self.as_text("\t"))

    def as_text(self, delimiter=","):
        """The table with its headers, one line per row."""
        columns = range(self.columnCount())
        lines = [["", *(self.horizontalHeaderItem(c).text() for c in columns)]]
        for row in range(self.rowCount()):
            cells = (self.item(row, c).text() for c in columns)
            lines.append([self.verticalHeaderItem(row).text(), *cells])
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
        return text.getvalue()


class ScoreTable(_Table):
    """One row of numbers per class."""

    def __init__(self) -> None:
        super().__init__()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)

    def show_scores(self, scores: Any, titles: Any) -> None:
        """Show ``scores[row][name]``, with a column for each name of ``titles`` that has values."""
        known = {n for values in scores.values() for n in titles if not np.isnan(values[n])}
        titles = {name: title for name, title in titles.items() if name in known}
        self.reshape(list(scores), list(titles.values()))
        for row, values in enumerate(scores.values()):
            for column, name in enumerate(titles):
                value = values[name]
                self.item(row, column).setText("" if np.isnan(value) else f"{value:.3f}")
        self.show()


class MatrixTable(_Table):
    """A transition matrix: row, the true class; column, the noisy one.

    Attributes
    ----------
    changed : Signal
        A number was typed in.
    editable : bool
        Whether numbers can be typed in.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.editable = False
        self.setToolTip("Row: true class; column: class in the noisy labels. Rows sum to 1.")
        self.itemChanged.connect(self._on_item)

    def show_matrix(
        self, matrix: Any, classes: Sequence[int] | None = None, editable: bool = False
    ) -> None:
        """Show a matrix; a row of NaN belongs to a class without pixels."""
        names = range(len(matrix)) if classes is None else classes
        with self._quiet():
            self.reshape(names, names)
            for index, value in np.ndenumerate(np.asarray(matrix, float)):
                text = f"{value:.4g}" if editable else _short(value)
                self.item(*index).setText("" if np.isnan(value) else text)
                self._paint(self.item(*index), value)
        self.editable = editable
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.AllEditTriggers if editable else triggers.NoEditTriggers)
        self.show()

    def matrix(self) -> Any:
        """The numbers that are shown, as nested lists; NaN where there is none."""
        size = range(self.rowCount())
        return [[_number(self.item(row, column).text()) for column in size] for row in size]

    def _on_item(self, item):
        with self._quiet():
            self._paint(item, _number(item.text()))
        self.changed.emit()

    @contextmanager
    def _quiet(self):
        blocked = self.blockSignals(True)
        yield
        self.blockSignals(blocked)

    def _paint(self, item, value):
        if not 0 <= value <= 1:
            item.setData(Qt.ItemDataRole.BackgroundRole, None)
            item.setData(Qt.ItemDataRole.ForegroundRole, None)
            return
        colour = AVAILABLE_COLORMAPS["viridis"].map(np.array([value]))[0]
        item.setBackground(QColor.fromRgbF(*(float(part) for part in colour[:3])))
        item.setForeground(QColor("black" if value > 0.6 else "white"))


def _short(value):
    """Few digits, but enough to tell 1 from nearly 1, and 0 from nearly 0."""
    if value in (0, 1):
        return f"{value:.0f}"
    text = f"{value:.3f}"
    if text == "1.000":
        return "> .999"
    return "< .001" if text == "0.000" else text


def _number(text):
    number, known = QLocale.c().toDouble(text.strip().replace(",", "."))
    return number if known else float("nan")

"""Names of layers, long or with <, > and &: shown as they are, and in full where there is room."""

import html
import re

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QComboBox, QLabel, QStyle, QStyleOptionComboBox, QStylePainter, QToolTip

__all__ = ["WrappedLabel", "as_html", "breakable", "keep_narrow"]

_LETTERS = 12  # of a name, for which a box always has room
_WIDEST_LIST = 800  # pixels of the list that a box opens
_NARROWEST_TEXT = 120
_LONG_WORD = re.compile(r"(?<!\S)[^\s/\\]{30,}(?!\S)")
_BREAK = "\N{ZERO WIDTH SPACE}"


def keep_narrow(box: QComboBox) -> None:
    """Let a box be narrower than its longest text, of which the middle is left out then.

    The list that it opens shows all of the names, and the tooltip that of the one chosen.

    Parameters
    ----------
    box : QComboBox
    """
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(_LETTERS)
    box.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
    box.installEventFilter(_Elided(box))


def breakable(text: str) -> str:
    """A text in which long words, such as names of layers, may be broken at _ and dots.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Paths stay as they are, since they are copied.
    """
    return _LONG_WORD.sub(lambda word: re.sub(r"(?<=[_.])(?=\w)", _BREAK, word[0]), text)


def as_html(text: str) -> str:
    """A text with names in it as HTML that shows it as it is, where Qt could take it for HTML.

    Parameters
    ----------
    text : str
    """
    lines = "<br>".join(map(html.escape, text.split("\n")))
    return f"<qt>{lines}</qt>" if text else ""


class WrappedLabel(QLabel):
    """A label whose lines wrap, and which does not widen its dock for a long word.

    Its text is shown as it is, also names with < and >.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def minimumSizeHint(self) -> QSize:
        """As narrow as may be."""
        hint = super().minimumSizeHint()
        hint.setWidth(min(hint.width(), _NARROWEST_TEXT))
        return hint


class _Elided(QObject):
    """Draws a combo box with the middle of its text left out, where there is no room for it."""

    def eventFilter(self, box, event):
        kind = event.type()
        if kind == QEvent.Type.Paint:
            _draw(box)
            return True
        if kind == QEvent.Type.ToolTip and box.currentText():
            text = "\n".join([box.currentText(), box.toolTip()]).strip()
            QToolTip.showText(event.globalPos(), as_html(text), box)
            return True
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress):  # may open the list
            view = box.view()
            width = view.sizeHintForColumn(0) + view.verticalScrollBar().sizeHint().width()
            view.setMinimumWidth(min(max(width, box.width()), _WIDEST_LIST))
        return False


def _draw(box):
    painter, option = QStylePainter(box), QStyleOptionComboBox()
    box.initStyleOption(option)
    control = QStyle.ComplexControl.CC_ComboBox
    field = QStyle.SubControl.SC_ComboBoxEditField
    room = box.style().subControlRect(control, option, field, box).width()
    option.currentText = box.fontMetrics().elidedText(
        option.currentText, Qt.TextElideMode.ElideMiddle, room
    )
    painter.drawComplexControl(control, option)
    painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
    painter.end()

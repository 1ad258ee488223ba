"""The notebooks of the documentation run from top to bottom."""

import json
import time
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def code(notebook):
    """The code cells of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names, start = {}, time.process_time()
    for cell in code(notebook):
        exec(compile(cell, notebook.name, "exec"), names)
    matplotlib.pyplot.close("all")
    assert time.process_time() - start < 120
    for score in names.get("scores", {}).values():
        assert score["auc"] > 0.8
    if "masks" in names:
        assert names["nms"].compare(names["truth"], names["masks"]).scores["dice"] > 0.8
        assert len(names["table"]) > 10


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_holds_no_outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)

"""Replays: the run of a record again, and whether it gives the same."""

import json

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.labels.objects import ObjectsConfig
from napari_metastructure.runs.operations import perform
from napari_metastructure.runs.replay import replay
from napari_metastructure.runs.run import Run


@pytest.fixture
def record(tmp_path):
    """Of a measurement whose two tables have one name, as those of a batch do."""
    mask = np.zeros((32, 32), np.uint8)
    mask[4:9, 4:9] = mask[20:25, 10:20] = 1
    nms.write(tmp_path / "mask.npy", mask)
    outputs = {role: tmp_path / folder / "a.csv" for role, folder in TABLES.items()}
    for path in outputs.values():
        path.parent.mkdir()
    options = {"numbered": False, "skeleton": False}
    inputs = {"labels": str(tmp_path / "mask.npy")}
    perform(Run("measure", inputs, outputs, ObjectsConfig(), options, quiet=True))
    return tmp_path / "tables" / "a.csv.record.json"


TABLES = {"output": "tables", "summary": "summaries"}


def test_results_of_one_name_in_several_folders(record, tmp_path):
    found = replay(record, keep=tmp_path / "again", quiet=True)
    assert found.same
    assert found.lines == ["a.csv: the same, bit for bit."] * 2
    for role, folder in TABLES.items():
        again = tmp_path / "again" / role / "a.csv"
        assert again.read_bytes() == (tmp_path / folder / "a.csv").read_bytes()


def test_a_record_that_does_not_say_whether_it_was_stopped(record):
    known = json.loads(record.read_text())
    for name in ("stopped", "partial", "started", "seconds", "device"):
        known.pop(name)
    record.write_text(json.dumps(known))
    assert replay(record, quiet=True).same

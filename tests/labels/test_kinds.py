"""The table of noise kinds, and that a kind more is seen everywhere."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from napari_metastructure.labels.kinds import KINDS, effects
from napari_metastructure.labels.noise import NoiseSpec

NEW_KIND = """
import json
import numpy as np
from napari_metastructure.labels.kinds import Axis, Kind
from napari_metastructure.parameters import Field


class Stripes(Kind):
    name = "stripes"
    effect = "lines are missing"
    amount = "missing"
    axis = Axis(
        "Lines missing", "Shares of the lines.", (0.25,), "lines missing", "Missing lines", "%"
    )
    missing: float = Field(0.5, ge=0, le=1, title="Missing lines", description="Their share.")

    def corrupt(self, labels):
        out = labels.copy()
        out[..., : round(self.missing * out.shape[-2]), :] = 0
        return out

    def closed_form(self, num_classes, fractions):
        matrix = (1 - self.missing) * np.eye(num_classes)
        matrix[:, 0] += self.missing
        return matrix
"""


def with_new_kind(code):
    """What the code prints where there is a kind more, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", NEW_KIND + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_new_kind_corrupts_and_has_its_matrix():
    found = with_new_kind("""
import napari_metastructure as nms
spec = nms.NoiseSpec(kind="stripes", missing=0.5)
noisy = nms.corrupt(np.ones((4, 4), np.uint8), spec)
print(json.dumps([noisy.mean(), nms.transition.of(spec, 2).tolist(), spec.summary()]))
""")
    assert found == [0.5, [[1, 0], [0.5, 0.5]], "stripes 50 %"]


def test_new_kind_is_an_option_of_the_command_line():
    found = with_new_kind("""
import contextlib
import io
from napari_metastructure.cli.main import main
helps = []
for name in ("corrupt", "sweep"):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([name, "--help"])
    helps.append(out.getvalue())
print(json.dumps(helps))
""")
    assert "--missing" in found[0]
    assert "stripes: lines are missing" in " ".join(found[0].split())
    assert "--stripes" in found[1]


def test_new_kind_is_swept_and_reported():
    runs, panels, label, text = with_new_kind("""
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep import report
from napari_metastructure.sweep.plan import plan
runs = [run.title for run in plan(SweepConfig(seeds=1)) if run.kind == "stripes"]
row = dict.fromkeys(report.SCORES) | {"seed": 0, "status": "done"}
table = [row | {"kind": "clean", "amount": None, "dice": 0.8}]
table += [row | {"kind": "stripes", "amount": 0.25, "dice": 0.7}]
label = report.figure(table).axes[0].get_xlabel()
print(json.dumps([runs, report.panels(["flip", "stripes"]), label, report.summary(table)]))
""")
    assert runs == ["stripes 25 %"]
    assert panels == [["flip"], ["stripes"]]
    assert label == "lines missing [%]"
    assert "Missing lines: 25 % costs 0.10." in text


def test_new_kind_is_in_the_forms():
    found = with_new_kind("""
import os
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_metastructure.plugin.docks.corrupt import CorruptLabels
from napari_metastructure.plugin.docks.sweep import NoiseSweep
viewer = ViewerModel()
viewer.add_labels(np.ones((8, 8), np.uint8))
corrupting, sweeping = CorruptLabels(viewer), NoiseSweep(viewer)
corrupting.form["kind"].value = "stripes"
shown = corrupting.form.values()
print(json.dumps([shown, corrupting.spec().kind, sweeping.form["stripes"].value]), flush=True)
os._exit(0)
""")
    assert found == [{"kind": "stripes", "missing": 0.5}, "stripes", "0.25"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described(kind):
    assert KINDS[kind].__doc__
    assert kind in effects()
    spec = NoiseSpec(kind=kind, **({"matrix": ((1, 0), (0, 1))} if kind == "transition" else {}))
    assert spec.noise().name == kind
    assert spec.summary().startswith(kind)


def test_amounts_of_a_sweep_are_fields_of_their_kind():
    for kind in KINDS.values():
        assert kind.amount is None or kind.amount in kind.model_fields
        if kind.axis is not None:
            assert (kind.axis.default is True) == (kind.amount is None)


def test_page_of_the_documentation_is_that_of_the_table():
    tables = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_tables.py"))
    assert tables["NOISE_KINDS"].read_text(encoding="utf-8") == tables["noise_kinds"](), (
        "run python docs/make_tables.py"
    )

"""What a command does with names: nothing of the user's is lost, nothing is told too late."""

import errno
import json
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_metastructure
from napari_metastructure import load_model
from napari_metastructure.files.read import read
from tests.cli.test_main import QUICK, _stop_at, folder, record_of, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

FLIP = ["--kind", "flip", "--ratio", "0.3", "--seed", "1"]
OVER = ["--overwrite", "--quiet"]


def contents(path):
    """All below a folder, by name."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def model(folder):  # noqa: F811
    run("train", ".", "-o", "m", *QUICK)
    return folder / "m.safetensors"


@pytest.mark.parametrize("name", ["er_v0.1", "er_v0.2.safetensors"])
def test_names_of_models_keep_their_dots(folder, name):  # noqa: F811
    run("train", ".", "-o", name, *QUICK)
    assert (folder / f"{name.removesuffix('.safetensors')}.safetensors").is_file()


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("masks", "masks"),
        ("masks", "masks/deep"),
        ("masks", "masks/new.tif"),
        ("masks", "."),
        ("masks/0.tif", "masks/0.tif"),
        ("masks/0.tif", "masks"),
        ("masks/*.tif", "masks/new.tif"),
        ("link", "masks"),
    ],
)
def test_what_is_read_is_never_written_to(folder, source, result):  # noqa: F811
    (folder / "link").symlink_to("masks")
    before = contents(folder)
    text = run("corrupt", source, "-o", result, *FLIP, *OVER, code=1)
    assert "input of this run" in text
    assert contents(folder) == before


def test_endings_are_refused_before_the_work(folder, model, monkeypatch):  # noqa: F811
    from napari_metastructure.learning import prediction

    monkeypatch.setattr(prediction, "predict", lambda *_, **__: pytest.fail("worked"))
    for out in ("p.png", "p.h5", "results_v1.2", "P.ZARR"):
        text = run("predict", model, "images", "-o", out, code=1)
        assert f"{out} should end in" in text


def test_two_results_to_one_name_are_refused_before_the_work(folder, model):  # noqa: F811
    for a in "ab":
        (folder / "d" / a).mkdir(parents=True)
        tifffile.imwrite(folder / "d" / a / "x.tif", tifffile.imread("images/0.tif"))
    run("predict", model, "d/*/x.tif", "-o", "out", "--quiet")
    assert read("out").names == ("a_x", "b_x")
    (folder / "d" / "a" / "x.png").touch()
    text = run("predict", model, "d/a/x.*", "-o", "other", "--quiet", code=1)
    assert "2 results would have the name" in text
    assert not (folder / "other").exists()
    (folder / "d" / "a" / "x.png").unlink()
    run("predict", model, "d/*/x.tif", "-o", "out.tif", "--quiet")
    for other in ("s.tif", "./s.tif"):
        text = run("predict", model, "images", "-o", "s.tif", "--probabilities", other, code=1)
        assert "are both results" in text
    text = run("predict", model, "images", "-o", "s", "--probabilities", "s/p.tif", code=1)
    assert "are both results" in text


def test_differing_shapes_to_one_file_are_refused_before_the_work(folder, model):  # noqa: F811
    tifffile.imwrite("images/9.tif", np.eye(40, 33, dtype=np.uint8))
    for out in ("p.tif", "p.ome.zarr"):
        text = run("predict", model, "images", "-o", out, "--quiet", code=1)
        assert "give" in text
        assert "no ending" in text


@pytest.mark.parametrize("out", ["r.ome.zarr", "r.tif", "r"])
def test_the_old_result_stays_if_the_new_one_fails(folder, model, out):  # noqa: F811
    pytest.importorskip("zarr")
    run("predict", model, "images", "-o", out, "--quiet")
    before = contents(folder)
    np.save("nan.npy", np.full((48, 48), np.nan, np.float32))
    Path(folder / "bad.safetensors").write_bytes(b"no model")
    run("predict", "bad.safetensors", "images", "-o", out, *OVER, code=1)
    run("predict", model, "nowhere", "-o", out, *OVER, code=1)
    assert {n: b for n, b in contents(folder).items() if n in before} == before
    run("predict", model, "images", "-o", out, *OVER)  # its own earlier result may be replaced
    assert read(out).complete


def test_foreign_folders_and_groups_are_not_replaced(folder, model):  # noqa: F811
    zarr = pytest.importorskip("zarr")
    (folder / "x.zarr").mkdir()
    (folder / "x.zarr" / "thesis.txt").write_text("mine")
    group = zarr.create_group(folder / "data.zarr")
    group.create_array("raw", data=read("images").data, chunks=(1, 48, 48))
    before = contents(folder)
    for source, out in (
        ("images", "x.zarr"),
        ("images", "data.zarr"),
        ("data.zarr/raw", "data.zarr"),
    ):
        run("predict", model, source, "-o", out, *OVER, code=1)
        assert contents(folder) == before


def test_files_of_the_user_are_not_replaced(folder):  # noqa: F811
    np.save("mine.npy", np.ones((4, 4)))
    (folder / "new.tif.record.json").write_text('{"notes": "mine"}')
    (folder / "dangling.tif").symlink_to(folder / "nowhere.tif")
    before = contents(folder)
    for out in ("mine.npy", "new.tif", "dangling.tif"):
        run("corrupt", "masks", "-o", out, *FLIP, code=1)
        run("corrupt", "masks", "-o", out, *FLIP, *OVER, code=1)
    assert contents(folder) == before
    assert (folder / "dangling.tif").is_symlink()


def test_a_sweep_leaves_the_folders_of_others_alone(folder):  # noqa: F811
    (folder / "found").mkdir()
    (folder / "found" / "sweep.csv").write_text("mine")
    for out, words in (
        ("found", "holds other files, such as sweep.csv"),
        ("images", "input of this run"),
    ):
        text = run("sweep", ".", "-o", out, "--sample", "0.5", *QUICK, code=1)
        assert words in text
    assert contents(folder / "found") == {"sweep.csv": b"mine"}


@pytest.mark.parametrize("out", ["c.ome.zarr", "c.tif", "c.npy", "c"])
def test_an_unfinished_result_says_so_in_every_format(folder, model, monkeypatch, out):  # noqa: F811
    pytest.importorskip("zarr")
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import Progress

    with monkeypatch.context() as patch:
        patch.setattr(progress._Shown, "__call__", _stop_at(Progress, "done", 2))
        text = run("predict", model, "images", "-o", out, code=130)
    assert f"Wrote {out}, which is partial." in text
    assert record_of(folder / out)["partial"]
    assert "partial: the run that makes it has not finished" in run("info", out)
    assert f"{out} is a partial result" in run("compare", "masks", out)
    assert not read(out, missing="fill").complete
    run("predict", model, "images", "-o", out, *OVER)
    assert read(out).complete
    whole = contents(folder / out) if out == "c" else None
    with monkeypatch.context() as patch:
        patch.setattr(progress._Shown, "__call__", _stop_at(Progress, "done", 2))
        text = run("predict", model, "images", "-o", out, "--overwrite", code=130)
    other = f"c-partial{out[1:]}"
    assert f"Wrote {other}, which is partial." in text
    assert f"{out} stays as it is" in text
    assert read(out).complete
    assert whole is None or contents(folder / out) == whole
    assert not read(other, missing="fill").complete
    assert record_of(folder / other)["outputs"]["output"]["path"].endswith(other)


def test_a_model_of_no_steps_is_not_written(folder, monkeypatch):  # noqa: F811
    from napari_metastructure.jobs import progress

    events = []

    def show(self, event):
        if not events:
            signal.raise_signal(signal.SIGINT)
        events.append(event)

    monkeypatch.setattr(progress._Shown, "__call__", show)
    text = run("train", ".", "-o", "m", *QUICK, code=1)
    assert "before its first step" in text
    assert not (folder / "m.safetensors").exists()


@pytest.mark.parametrize(
    "refused",
    ["learning.model.SegmentationModel.save", "runs.run.save", "files.outputs.write_record"],
)
def test_a_full_disk_costs_no_result(folder, tmp_path, monkeypatch, refused):  # noqa: F811
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    command = ["train", ".", "-o", "m", *QUICK]
    if "SegmentationModel" not in refused:
        command = ["corrupt", "masks", "-o", "m.npy", *FLIP, "--quiet"]
    module, _, name = f"napari_metastructure.{refused}".rpartition(".")
    owner = pkgutil.resolve_name(module)
    real = getattr(owner, name)

    def on_a_full_disk(*arguments, **options):
        place = next(Path(a) for a in arguments if isinstance(a, Path))
        if elsewhere not in place.parents:
            raise OSError(errno.ENOSPC, "The disk is full: m could not be written.")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, on_a_full_disk)
    text = run(*command, code=1)
    assert "Until then the result is in" in text
    [kept] = (p for p in elsewhere.rglob("m.*") if p.suffix in (".npy", ".safetensors"))
    assert str(kept) in text
    assert (load_model if kept.suffix == ".safetensors" else np.load)(kept) is not None
    assert not list(folder.glob("m*.*"))


def test_a_record_counts_only_for_its_own_labels(folder):  # noqa: F811
    run("corrupt", "masks", "-o", "noisy.npy", *FLIP, "--quiet")
    assert "has changed" not in run("train", "images", "noisy.npy", "-o", "a", *QUICK)
    assert record_of(folder / "a.safetensors")["options"]["noise"]["kind"] == "flip"
    np.save("noisy.npy", read("masks").data)  # someone puts corrected labels there
    told = run("train", "images", "noisy.npy", "-o", "b", *QUICK)
    assert record_of(folder / "b.safetensors")["options"]["noise"] is None
    assert "noisy.npy has changed since the noise in its record was made" in told


def test_a_second_run_to_one_name_is_refused(folder):  # noqa: F811
    from napari_metastructure.files.outputs import Output

    first = Output(folder / "a.tif")
    text = run("corrupt", "masks", "-o", "a.tif", *FLIP, code=1)
    assert "Another run is writing a.tif now" in text
    first.discard()
    run("corrupt", "masks", "-o", "a.tif", *FLIP)


def test_a_killed_run_leaves_the_old_result_and_no_trace(folder):  # noqa: F811
    run("corrupt", "masks", "-o", "a.npy", *FLIP, "--quiet")
    before = contents(folder)
    code = (
        "import os, sys\nfrom napari_metastructure.runs import run\n"
        "run._give_names = lambda *_: os.kill(os.getpid(), 9)\n"
        "from napari_metastructure.cli.main import main\nmain(sys.argv[1:])"
    )
    arguments = ["corrupt", "masks", "-o", "a.npy", "--kind", "flip", "--ratio", "0.1", *OVER]
    here = {**os.environ, "PYTHONPATH": str(Path(napari_metastructure.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", code, *arguments], env=here)
    assert killed.returncode != 0
    assert {name: data for name, data in contents(folder).items() if name in before} == before
    assert any(".part" in name for name in contents(folder))
    run("corrupt", "masks", "-o", "b.npy", *FLIP, "--quiet")
    assert not any(".part" in name for name in contents(folder))


def test_scores_get_their_ending(folder):  # noqa: F811
    run("compare", "masks", "masks", "-o", "scores.v1")
    assert json.loads((folder / "scores.v1.json").read_text())["scores"]["dice"] == 1

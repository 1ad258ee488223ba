import csv
import json
import signal
import threading

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import napari_metastructure as nms
from napari_metastructure.cli import main as cli
from napari_metastructure.cli.options import config_options
from napari_metastructure.few_labels.configs import SegmentConfig
from napari_metastructure.files.read import read
from napari_metastructure.labels import noise, objects
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.configs import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ["--channels", "4", "--depth", "3", "--patch-size", "32", "--min-steps", "1"]
QUICK += ["--epochs", "1", "--batch-size", "4", "--device", "cpu", "--quiet"]


@pytest.fixture
def folder(tmp_path, blobs, monkeypatch):
    """A folder with images/ and masks/, which is the present one."""
    images, masks = blobs(6, seed=0, size=48)
    for name, stack in (("images", images), ("masks", masks)):
        (tmp_path / name).mkdir()
        for number, plane in enumerate(stack):
            tifffile.imwrite(tmp_path / name / f"{number}.tif", plane)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, code=0):
    """What a command prints, if it ends with this code."""
    found = CliRunner().invoke(_Main(), [str(a) for a in arguments])
    assert found.exit_code == code, found.output
    assert "Traceback" not in found.output
    return found.output


class _Main:
    """`cli.main` as something that `CliRunner` can run."""

    name = "napari-metastructure"

    def main(self, args, **_):
        cli.main(list(args))


def record_of(path):
    return json.loads((path.parent / f"{path.name}.record.json").read_text())


# --------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", sorted(cli.commands.commands))
def test_each_command_teaches_by_example(name):
    text = run(name, "--help")
    assert f"napari-metastructure {name} " in text
    assert "None]" not in text  # a range without an end


def test_options_state_what_the_model_states():
    text = " ".join(run("train", "--help").split())
    for name, field in TrainingConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description.split("; ")[0][:12] in text
    assert "[default: 16; 2<=x<=256]" in text  # channels


def test_options_of_a_model_leave_unset_what_is_not_typed():
    import click

    seen = []

    @click.command()
    @config_options(SegmentConfig)
    def command(config):
        seen.append(config)

    CliRunner().invoke(command, ["--mode", "paper", "--no-ems"])
    CliRunner().invoke(command, ["--time-limit", "none", "--num-thresholds", "7"])
    assert (seen[0].channels, seen[0].ems) == (64, False)  # the published width
    assert (seen[1].channels, seen[1].time_limit, seen[1].num_thresholds) == (8, None, 7)


# ------------------------------------------------------------------------------- the job


def test_corrupt_train_predict_compare_replay(folder):
    run("corrupt", "masks", "-o", "noisy.ome.tif", "--kind", "flip", "--ratio", 0.2, "--seed", 3)
    masks = read("masks").data
    np.testing.assert_array_equal(
        read("noisy.ome.tif").data, noise.corrupt(masks, "flip", ratio=0.2, seed=3)
    )
    record = record_of(folder / "noisy.ome.tif")
    assert record["config"]["ratio"] == 0.2
    assert record["inputs"]["labels"]["files"] == 6
    assert record["versions"]["numpy"] == np.__version__
    assert not record["stopped"]

    run("train", "images", "noisy.ome.tif", "-o", "m.safetensors", "--seed", 5, *QUICK)
    record = record_of(folder / "m.safetensors")
    assert record["options"]["noise"]["kind"] == "flip"  # from the record beside the labels
    assert "noise corrected in training (flip 20 %" in record["threshold_source"]
    assert len(record["loss"]) == record["steps"]

    out = ["-o", "labels", "--probabilities", "p.ome.tif", "--quiet"]
    run("predict", "m.safetensors", "images", *out)
    assert read("labels").names == tuple("012345")
    p = read("p.ome.tif").data
    np.testing.assert_array_equal(read("labels").data, p > record["threshold"])

    text = run("compare", "masks", "p.ome.tif", "-o", "scores.json")
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert f"{scores['auc']:.4f}" in text
    assert "the mask" not in run("info", "m.safetensors", "p.ome.tif", ".")

    for result in ("noisy.ome.tif", "m.safetensors", "labels", "scores.json"):
        text = run("replay", f"{result}.record.json", "--quiet")
        assert "the same, bit for bit" in text


def test_segment_without_labels(folder):
    out = ["-o", "found.ome.tif", "--model", "m.safetensors"]
    run("segment", "images", *out, "--start", "otsu", "--polarity", "bright", *QUICK)
    assert set(np.unique(read("found.ome.tif").data)) <= {0, 1}
    assert record_of(folder / "m.safetensors")["start"] == ["otsu"]


def test_segment_with_a_few_strokes(folder):
    masks = read("masks").data
    strokes = np.zeros_like(masks)
    strokes[2] = simulate_strokes(masks[2], 4, 10, seed=0)
    tifffile.imwrite("strokes.tif", strokes)
    run("segment", "images", "--strokes", "strokes.tif", "-o", "found.ome.tif", *QUICK)
    assert set(np.unique(read("found.ome.tif").data)) <= {0, 1}
    assert record_of(folder / "found.ome.tif")["start"] == ["strokes"]
    tifffile.imwrite("one.tif", np.minimum(strokes, 1))
    text = run("segment", "images", "--strokes", "one.tif", "-o", "b.tif", *QUICK, code=1)
    assert "at least one stroke on objects" in text
    command = ["segment", "images", "--strokes", "strokes.tif", "-o", "c.tif", *QUICK]
    assert "no use for rounds" in run(*command, "--rounds", 2, code=1)


@pytest.mark.parametrize("painted", [[2], [0, 4]])
def test_strokes_on_some_images_of_a_folder(folder, painted):
    masks = read("masks").data
    (folder / "strokes").mkdir()
    for k in painted:
        strokes = simulate_strokes(masks[k], 4, 10, seed=k)
        tifffile.imwrite(folder / "strokes" / f"{k}_strokes.tif", strokes)
    command = ["segment", "images", "--strokes", "strokes", *QUICK[:-1], "--seed", 0]
    assert f"Strokes on {len(painted)} of 6 images" in run(*command, "-o", "some.ome.tif")
    whole = np.zeros_like(masks)
    for k in painted:
        whole[k] = tifffile.imread(folder / "strokes" / f"{k}_strokes.tif")
    tifffile.imwrite("whole.tif", whole)
    run(*command[:3], "whole.tif", *command[4:], "-o", "whole.ome.tif")
    np.testing.assert_array_equal(read("some.ome.tif").data, read("whole.ome.tif").data)
    tifffile.imwrite(folder / "strokes" / "9.tif", whole[0])
    assert "9 belongs to no image" in run(*command, "-o", "c.ome.tif", code=1)


def test_density_of_noisy_against_clean_labels(folder):
    run("corrupt", "masks", "-o", "noisy.npy", "--kind", "flip", "--ratio", 0.3, "--seed", 0)
    run("density", "masks", "-o", "maps.ome.tif", "--radius", 5)
    assert read("maps.ome.tif").data.shape == (2, 6, 48, 48)
    text = run("density", "noisy.npy", "--clean", "masks", "-o", "r.npy", "--quiet")
    assert float(text.split("%")[0]) > 99


def test_density_of_numbered_objects_is_that_of_all(folder):
    objects = np.zeros((48, 48), np.int32)
    objects[::4, ::4] = 7 * np.arange(1, 145).reshape(12, 12)
    nms.write("objects.ome.tif", objects)
    nms.write("mask.ome.tif", objects > 0)
    text = run("density", "objects.ome.tif", "-o", "maps.npy")
    assert "look like numbered objects" in text
    run("density", "mask.ome.tif", "-o", "expected.npy")
    assert np.load("maps.npy").shape == (2, 48, 48)
    np.testing.assert_array_equal(np.load("maps.npy"), np.load("expected.npy"))
    run("density", "objects.ome.tif", "--clean", "mask.ome.tif", "-o", "residual.npy")
    assert not np.load("residual.npy").any()


def test_a_folder_with_images_and_masks_gives_both(folder):
    run("train", folder, "-o", "m.safetensors", *QUICK)
    assert record_of(folder / "m.safetensors")["images"] == 6  # a part of each is held back


def test_differing_shapes_are_trained_on_and_predicted(folder):
    for name in ("images", "masks"):
        tifffile.imwrite(folder / name / "9.tif", np.eye(40, 33, dtype=np.uint8))
    run("train", folder, "-o", "m.safetensors", *QUICK)
    run("predict", "m.safetensors", "images", "-o", "labels", "--quiet")
    found = read("labels")
    assert found.data[-1].shape == (40, 33)
    assert found.names == (*"012345", "9")


# ------------------------------------------------------------------------------ settings


def test_command_line_wins_over_settings_file(folder):
    (folder / "s.yaml").write_text("kind: flip\nratio: 0.3\nseed: 4\n")
    run("corrupt", "masks", "-o", "a.tif", "--settings", "s.yaml", "--ratio", "0.1")
    config = record_of(folder / "a.tif")["config"]
    assert (config["kind"], config["ratio"], config["seed"]) == ("flip", 0.1, 4)
    run("corrupt", "masks", "-o", "b.tif", "--settings", "a.tif.record.json")
    assert record_of(folder / "b.tif")["config"] == config
    assert (
        record_of(folder / "b.tif")["outputs"]["output"]["digest"]
        == record_of(folder / "a.tif")["outputs"]["output"]["digest"]
    )


def test_matrix_and_classes_from_the_command_line(folder):
    run("corrupt", "masks", "-o", "a.tif", "--kind", "transition", "--matrix", "[[0,1],[1,0]]")
    np.testing.assert_array_equal(read("a.tif").data, 1 - read("masks").data)
    run("corrupt", "masks", "-o", "b.tif", "--kind", "sample", "--fraction", 0, "--classes", "2")
    np.testing.assert_array_equal(read("b.tif").data, read("masks").data)


# ----------------------------------------------------------------------------- bad input


def test_failures_are_one_sentence_and_a_code(folder):
    (folder / "empty").mkdir()
    (folder / "s.yaml").write_text("epoch: 3")
    (folder / "m.safetensors").write_bytes(b"no model")
    flip = ["--kind", "flip"]
    cases = [
        (1, ["corrupt", "empty", "-o", "a.tif", *flip], "no image in the folder"),
        (1, ["corrupt", "nowhere", "-o", "a.tif", *flip], "no file or folder"),
        (1, ["corrupt", "masks", "-o", "no/a.tif", *flip], "no folder"),
        (1, ["corrupt", "masks", "-o", "images", *flip], "exists already"),
        (
            1,
            ["corrupt", "masks/0.tif", "-o", "masks/0.tif", "--overwrite", *flip],
            "input of this run",
        ),
        (1, ["train", "images", "-o", "n.safetensors"], "There are no labels"),
        (1, ["predict", "m.safetensors", "images", "-o", "a.tif"], "is damaged"),
        (1, ["replay", "s.yaml"], "cannot be read as a record"),
        (2, ["corrupt", "masks", "-o", "a.tif"], "kind is missing"),
        (2, ["corrupt", "masks", "-o", "a.tif", *flip, "--ratio", "2"], "0<=x<=1"),
        (2, ["corrupt", "masks", "-o", "a.tif", *flip, "--classes", "a,b"], "neither numbers"),
        (2, ["train", "images", "masks", "-o", "m.pt"], "should end in"),
        (2, ["train", ".", "-o", "n.safetensors", "--settings", "s.yaml"], "parameter 'epoch'"),
        (2, ["predict", "m.safetensors", "images"], "Nothing to write"),
    ]
    for code, arguments, text in cases:
        lines = run(*arguments, code=code).strip().splitlines()
        assert text in lines[-1]
        assert lines[-1].startswith("Error: ")
        assert code == 2 or len(lines) == 1
    assert not (folder / "a.tif").exists()


def test_replay_tells_changed_inputs_and_changed_results(folder):
    run("corrupt", "masks", "-o", "a.tif", "--kind", "flip", "--seed", 1)
    path = folder / "a.tif.record.json"
    record = json.loads(path.read_text())
    record["config"]["seed"] = 2
    record["versions"]["numpy"] = "1.0"
    path.write_text(json.dumps(record))
    text = run("replay", path, code=1)
    assert "differs in" in text
    assert "numpy was 1.0" in text
    tifffile.imwrite(folder / "masks" / "0.tif", np.zeros((48, 48), np.uint8))
    assert "have changed since" in run("replay", path, code=1)


def test_replay_takes_floats_within_rounding_for_the_same(folder):
    run("density", "masks", "-o", "d.npy", "--radius", 3)
    path = folder / "d.npy.record.json"
    for gap, code, text in ((1e-6, 0, "same within"), (0.1, 1, "differs by up to 0.1")):
        np.save(folder / "d.npy", read("d.npy").data + np.float32(gap))
        record = json.loads(path.read_text())
        from napari_metastructure.runs.run import result_digest

        record["outputs"]["output"]["digest"] = result_digest(folder / "d.npy")
        path.write_text(json.dumps(record))
        assert text in run("replay", path, code=code)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_training_is_kept_and_marked(folder, monkeypatch, how, code):
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import Step

    monkeypatch.setattr(progress._Shown, "__call__", _stop_at(Step, "step", 3, how))
    monkeypatch.setattr(progress, "_terminated", threading.Event())
    run("train", ".", "-o", "m.safetensors", *QUICK, "--epochs", 50, code=code)
    record = record_of(folder / "m.safetensors")
    assert record["stopped"]
    assert record["steps"] == 3


def test_a_training_starts_from_a_model(folder):
    run("train", ".", "-o", "a.safetensors", *QUICK, "--seed", "1")
    run("train", ".", "-o", "b.safetensors", *QUICK, "--start-from", "a.safetensors")
    record = json.loads((folder / "b.safetensors.record.json").read_text())
    assert record["inputs"]["start_from"]["path"].endswith("a.safetensors")
    assert record["started_from"]["config"]["seed"] == 1
    out = run("train", ".", "-o", "c.safetensors", "--start-from", "none.safetensors", code=2)
    assert "does not exist" in out


def test_networks_by_other_names_are_judged_by_their_model(folder):
    given = ["train", ".", "-o", "m.safetensors", *QUICK[:-7], "--patch-size", "64"]
    assert "not 'vnet'" in run(*given, "--network", "vnet", code=2)


def test_a_stopped_training_resumes_from_its_checkpoint(folder, monkeypatch):
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import Step

    arguments = ["train", ".", *QUICK, "--epochs", 3, "--seed", 0]
    run(*arguments, "-o", "whole.safetensors")
    kept = ["--checkpoint", "kept.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(progress._Shown, "__call__", _stop_at(Step, "step", 3))
        run(*arguments, "-o", "first.safetensors", *kept, code=130)
    assert record_of(folder / "first.safetensors")["stopped"]
    run(*arguments, "-o", "second.safetensors", *kept)
    whole, second = (record_of(folder / f"{n}.safetensors") for n in ("whole", "second"))
    assert whole["outputs"]["model"]["digest"] == second["outputs"]["model"]["digest"]
    said = run(*arguments, "-o", "third.safetensors", "--checkpoint", "images/0.tif", code=1)
    assert "0.tif" in said


def test_a_stopped_segmentation_resumes_from_its_checkpoint(folder, monkeypatch):
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import Step

    arguments = ["segment", "images", *QUICK, "--epochs", 3, "--seed", 0, "--start", "otsu"]
    kept = ["--checkpoint", "kept.safetensors"]
    run(*arguments, "-o", "whole.tif", "--model", "whole.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(progress._Shown, "__call__", _stop_at(Step, "step", 3))
        run(*arguments, "-o", "first.tif", *kept, code=130)
    run(*arguments, "-o", "second.tif", "--model", "second.safetensors", *kept)
    whole, second = (record_of(folder / f"{n}.tif") for n in ("whole", "second"))
    for role in ("output", "model"):
        assert whole["outputs"][role]["digest"] == second["outputs"][role]["digest"]
    before = (folder / "kept.safetensors").stat()
    assert "same" in run("replay", "second.tif.record.json")
    assert (folder / "kept.safetensors").stat() == before  # a replay begins at the beginning
    other = run(*arguments, "-o", "c.tif", *kept, "--channels", 6, code=1)
    assert "other settings (channels)" in other
    run(*arguments, "-o", "c.tif", *kept, "--channels", 6, "--fresh")


def _stop_at(kind, attribute, number, how=signal.SIGINT):
    """In place of the progress bar: Ctrl-C, or another signal, at a certain event."""

    def show(self, event):
        if isinstance(event, kind) and getattr(event, attribute) == number:
            signal.raise_signal(how)

    return show


def test_zarr_in_and_out_is_the_same_as_tiff(folder):
    pytest.importorskip("zarr")
    run("corrupt", "masks", "-o", "a.ome.zarr", "--kind", "dilate", "--radius", 2)
    run("corrupt", "a.ome.zarr", "-o", "b.ome.zarr", "--kind", "flip", "--seed", 1, "--quiet")
    run("corrupt", "a.ome.zarr", "-o", "b.tif", "--kind", "flip", "--seed", 1)
    np.testing.assert_array_equal(read("b.ome.zarr").data, read("b.tif").data)
    record = record_of(folder / "b.ome.zarr")
    assert read("b.ome.zarr").record["config"] == record["config"]
    run("train", ".", "-o", "m.safetensors", *QUICK)
    out = ["-o", "c.ome.zarr", "--probabilities", "p.ome.zarr", "--quiet"]
    run("predict", "m.safetensors", "images", *out)
    run("predict", "m.safetensors", "images", "-o", "c.tif", "--quiet")
    np.testing.assert_array_equal(read("c.ome.zarr").data, read("c.tif").data)
    assert read("p.ome.zarr").data.dtype == np.float32
    assert read("p.ome.zarr").complete


def test_stopped_prediction_leaves_a_partial_image(folder, monkeypatch):
    pytest.importorskip("zarr")
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import Progress

    run("train", ".", "-o", "m.safetensors", *QUICK)
    monkeypatch.setattr(progress._Shown, "__call__", _stop_at(Progress, "done", 2))
    text = run("predict", "m.safetensors", "images", "-o", "c.ome.zarr", code=130)
    assert "Wrote c.ome.zarr, which is partial." in text
    assert record_of(folder / "c.ome.zarr")["partial"]
    assert "partial: the run that makes it has not finished" in run("info", "c.ome.zarr")


def test_coloured_images_are_trained_on_with_all_channels(folder):
    from skimage.io import imsave

    (folder / "rgb").mkdir()
    for path in (folder / "images").iterdir():
        grey = (tifffile.imread(path) // 16).clip(0, 255).astype(np.uint8)
        colours = np.stack([grey, 255 - grey, grey // 2], -1)
        imsave(folder / "rgb" / f"{path.stem}.png", colours, check_contrast=False)
    run("train", "rgb", "masks", "-o", "m.safetensors", *QUICK)
    assert record_of(folder / "m.safetensors")["config"]["channel_axis"] == 3
    run("predict", "m.safetensors", "rgb", "-o", "labels", "--quiet")
    assert read("labels").data.shape == (6, 48, 48)
    run("predict", "m.safetensors", "rgb/3.png", "-o", "one.tif", "--quiet")
    np.testing.assert_array_equal(read("one.tif").data, read("labels").data[3])
    text = run("predict", "m.safetensors", "images/3.tif", "-o", "grey.tif", code=1)
    assert "The model needs 3 channels, but an image of shape (48, 48) has no channels." in text


def test_scheduler_gives_the_same_as_this_machine(folder):
    pytest.importorskip("zarr")
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(processes=False, protocol="tcp", **options) as local:
        there = ["--scheduler", local.scheduler_address, "--quiet"]
        noise = ["--kind", "shift", "--radius", 2, "--seed", 1]
        run("corrupt", "masks", "-o", "a.ome.zarr", *noise, *there)
        run("train", ".", "-o", "m.safetensors", *QUICK)
        run("predict", "m.safetensors", "images", "-o", "b.ome.zarr", *there)
        text = run("corrupt", "masks", "-o", "a.tif", *noise, *there, code=1)
        assert "a.tif should end in .ome.zarr" in text
    run("corrupt", "masks", "-o", "a.tif", *noise)
    run("predict", "m.safetensors", "images", "-o", "b.tif", "--quiet")
    for name in "ab":
        np.testing.assert_array_equal(read(f"{name}.ome.zarr").data, read(f"{name}.tif").data)


# --------------------------------------------------------------------------------- stopping


def test_a_stopped_batch_or_sweep_tells_the_shell(folder, monkeypatch):
    from napari_metastructure.jobs import progress
    from napari_metastructure.jobs.events import FileDone, Scored

    run("train", ".", "-o", "m.safetensors", *QUICK)
    sweep = ["sweep", ".", "-o", "swept", "--sample", "0.5,0.2", "--seeds", 1, *QUICK]
    batch = ["batch", "images", "m.safetensors", "-o", "found", "--quiet"]
    for command, kind in ((batch, FileDone), (sweep, Scored)):
        with monkeypatch.context() as patch:
            patch.setattr(progress._Shown, "__call__", _stop_at(kind, "done", 1))
            run(*command, code=130)
        run(*command)  # the rest


# --------------------------------------------------------------------------------- sweep


def test_sweep_goes_on_where_it_stopped(folder):
    settings = folder / "sweep.yaml"
    settings.write_text("flip: []\ndilate: []\nerode: []\nskeletonize: false\nrandom: false\n")
    options = [*QUICK, "--seeds", "1", "--settings", "sweep.yaml"]
    text = run("sweep", ".", "-o", "found", "--sample", "0.5", *options)
    assert "Full annotation reaches a Dice of" in text
    assert (folder / "found" / "sweep.html").is_file()
    first = (folder / "found" / "runs.jsonl").read_text()
    assert len(first.splitlines()) == 2
    run("sweep", ".", "-o", "found", "--sample", "0.5,0.2", *options)
    assert (folder / "found" / "runs.jsonl").read_text().startswith(first)
    record = json.loads((folder / "found" / "sweep.json").read_text())
    assert [row["amount"] for row in record["table"]] == [None, 0.5, 0.2]
    assert set(record["inputs"]) == {"images", "labels"}
    text = run("sweep", ".", "-o", "found", *options, "--channels", "8", code=1)
    assert "another channels; choose another folder" in text


@pytest.mark.parametrize("name", ["found.ome.zarr", "found.tif"])
def test_segment_images_larger_than_memory(folder, name):
    pytest.importorskip("zarr")
    from napari_metastructure.files.write import write

    write("stack.ome.zarr", read("images").data)
    options = ["--start", "otsu", "--polarity", "bright", *QUICK]
    run("segment", "stack.ome.zarr", "-o", name, *options)
    found = read(name)
    assert found.complete
    assert found.data.shape == (6, 48, 48)
    assert 0 < np.asarray(found.data).mean() < 1
    text = run("segment", "stack.ome.zarr", "-o", "a.tif", "--probabilities", "p.tif", code=1)
    assert "only masks" in text


def test_compare_counts_objects(folder):
    text = run("compare", "masks", "masks", "--objects", "components", "-o", "s.json")
    assert "objects at IoU 0.5: F1 1.0000, average precision 1.0000" in text
    scores = json.loads((folder / "s.json").read_text())["objects"]
    assert scores["in_reference"] == scores["in_other"] > 1


def test_measure_takes_probabilities(folder):
    masks = read("masks").data
    nms.write("p.ome.tif", (0.1 + 0.8 * masks).astype(np.float32))
    for source, table in (("p.ome.tif", "p"), ("masks", "t")):
        run("measure", source, "-o", table, "--scale", 1, "--spatial-dims", 2)
    rows = [len((folder / f"{name}.csv").read_text().splitlines()) for name in "pt"]
    assert rows[0] == rows[1] > 2


def test_strokes_in_colours_are_refused_by_name(folder):
    from PIL import Image

    strokes = np.zeros((*read("masks").data.shape[1:], 3), np.uint8)
    strokes[2:4], strokes[8:10] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(strokes).save("strokes.png")
    text = run("segment", "images/0.tif", "--strokes", "strokes.png", "-o", "m.tif", code=1)
    assert "strokes.png holds colours; save strokes as numbers" in text


def test_measure_counts_the_objects_of_all_images(folder):
    masks = read("masks").data
    expected = objects.measure(objects.split(masks, min_size=5), scale=1)
    more = ["--summary", "s.csv", "--objects", "o.ome.tif", "--images", "images", "--skeleton"]
    text = run("measure", "masks", "-o", "t", "--min-size", 5, *more)
    assert f"{len(expected)} objects in planes; lengths in pixels.\n" in text
    with open(folder / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    assert [float(row["area"]) for row in rows] == expected["area"].tolist()
    assert {row["image"] for row in rows} <= set("012345")
    assert {"intensity_mean", "skeleton_length", "branch_points"} <= rows[0].keys()
    np.testing.assert_array_equal(read("o.ome.tif").data, objects.split(masks, min_size=5))
    with open(folder / "s.csv", newline="") as file:
        counts = [int(row["count"]) for row in csv.DictReader(file)]
    assert sum(counts) == len(rows)
    assert "the same, bit for bit" in run("replay", "t.csv.record.json", "--quiet")
    run(
        "measure", "o.ome.tif", "-o", "again.csv", "--numbered", "--scale", 0.5, "--spatial-dims", 2
    )
    with open(folder / "again.csv", newline="") as file:
        areas = [4 * float(row["area"]) for row in csv.DictReader(file)]
    assert areas == expected["area"].tolist()


def test_a_shared_model_predicts_the_same(folder):
    pytest.importorskip("bioimageio.spec")  # in the extra `testing`
    run("train", ".", "-o", "x.safetensors", *QUICK)
    texts = ["--name", "Blobs of a test", "--author", "A. Biologist", "--author", "B. Physicist"]
    assert "Wrote x.bioimageio.zip." in run("export", "x.safetensors", "images", "-o", "x", *texts)
    assert "exists already" in run("export", "x.safetensors", "images", "-o", "x", *texts, code=1)
    assert "unet" in run("info", "x.bioimageio.zip")
    for model in ("x.safetensors", "x.bioimageio.zip"):
        run("predict", model, "images", "-o", f"{model}.npy", "--device", "cpu", "--quiet")
    np.testing.assert_array_equal(np.load("x.safetensors.npy"), np.load("x.bioimageio.zip.npy"))


def test_what_cannot_be_shared_is_said(folder):
    """An image in colours was cut along them, for a model of grey images."""
    pytest.importorskip("bioimageio.spec")  # in the extra `testing`
    run("train", ".", "-o", "x.safetensors", *QUICK, "--seed", 0)
    colours = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    tifffile.imwrite("colours.tif", colours, photometric="rgb")
    tifffile.imwrite("empty.tif", np.zeros((48, 48), np.uint8))
    texts = ("--name", "Blobs of a test", "--author", "A. Biologist", "-o", "x")
    text = run("export", "x.safetensors", "colours.tif", *texts, code=1)
    assert "Error: The model takes grey images, but these are in colours" in text
    text = run("export", "x.safetensors", "empty.tif", *texts, code=1)
    assert "on the test image the model gives almost 0; give an image with objects" in text
    for name in ("Blob", "Blobs/nuclei", "B" * 129):
        named = ("--name", name, *texts[2:])
        text = run("export", "x.safetensors", "images", *named, code=1)
        assert "the name should have 5 to 128 letters, digits, spaces or any of _+-()" in text
    text = run("export", "colours.tif", "images", *texts, code=1)
    assert "colours.tif is damaged or no model; models are .safetensors files" in text
    assert not (folder / "x.bioimageio.zip").exists()


def test_a_folder_that_is_not_there_is_said_before_its_labels(folder):
    for command in ("train", "sweep"):
        text = run(command, "nothing", "-o", "x", "--quiet", code=1)
        assert text == "Error: There is no file or folder nothing.\n"


def test_info_tells_of_the_results_of_many_runs(folder):
    run("train", ".", "-o", "m.safetensors", *QUICK)
    run("batch", "images", "m.safetensors", "-o", "all", "--quiet")
    noise = ("--sample", 0.5, "--flip", "none", "--dilate", "none", "--erode", "none")
    more = ("--no-skeletonize", "--no-random", "--seeds", 1, "--min-steps", 2, "--quiet")
    run("sweep", ".", "-o", "found", *noise, *more, *QUICK)
    text = run("info", "all", "found")
    assert "results of a batch" in text
    assert "summary.csv: table of " in text
    assert "a sweep of 2 runs, with the report sweep.html" in text
    assert "Full annotation reaches a Dice of " in text


def test_a_sweep_on_numbered_objects_says_so(folder):
    labels = np.tile(np.arange(36).repeat(8).reshape(1, 6, 48).repeat(8, 1), (6, 1, 1))
    nms.write("numbers.ome.tif", labels.astype(np.uint8), axes="tyx")
    command = "sweep images numbers.ome.tif -o found --no-skeletonize --no-random --seeds 1"
    noise = "--sample 0.5 --flip none --dilate none --erode none"
    quick = [option for option in QUICK if option != "--quiet"]
    text = run(*command.split(), *noise.split(), *quick)
    assert text.count("Note: The labels hold 36 different values") == 1
    assert "UserWarning" not in text


@pytest.mark.parametrize("name", ["epochs", "augmentation"])
def test_what_is_found_by_itself_is_called_auto(folder, name):
    assert "or auto" in " ".join(run("train", "--help").split()).lower()
    given = ["train", ".", "-o", "m.safetensors", *QUICK, "--time-limit", "1", f"--{name}", "auto"]
    run(*given)
    record = json.loads((folder / "m.safetensors.record.json").read_text())
    assert record["config"][name] is None


@pytest.mark.parametrize("name", ["nuclei", "er_flipped", "nuclei_stack", "tissue"])
def test_samples_are_written_as_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run("sample", name, "-o", "there")
    layers = getattr(nms.samples, name)()
    images = read("there/images")
    pixels = np.squeeze(images.data)
    if name == "tissue":
        assert images.channel_axis is not None
        pixels = np.moveaxis(pixels, 0, -1)
    np.testing.assert_array_equal(pixels, layers[0][0])
    if name == "tissue":
        return
    assert images.scale[-1] == pytest.approx(layers[0][1]["scale"][-1])
    assert images.units[-1] == "micrometer"
    np.testing.assert_array_equal(np.squeeze(read("there/masks").data), layers[-1][0])
    assert (tmp_path / "there" / "clean").exists() is (name == "er_flipped")
    assert "exists already" in run("sample", name, "-o", "there", code=1)


def test_each_sample_of_the_window_is_one_of_the_command():
    assert set(cli.SAMPLES) == {
        name for name in nms.samples.__all__ if not name.startswith("simulate_")
    }


def test_labels_that_become_one_mask_are_told(folder):
    labels = np.zeros((9, 9), np.uint8)
    labels[2:4, 2:8] = np.repeat([1, 2, 3], 2)
    nms.write("cells.ome.tif", labels, axes="yx", scale=(0.5, 0.5), units=("um", "um"))
    text = run("measure", "cells.ome.tif", "-o", "one.csv")
    assert (
        "The labels 1 to 3 are taken as one mask: where they touch they are one object. If each "
        "label is an object, give --numbered.\n"
    ) in text
    assert "1 object in planes; lengths in µm.\n" in text
    text = run("measure", "cells.ome.tif", "-o", "three.csv", "--numbered")
    assert "one mask" not in text
    assert "3 objects in planes" in text


def test_help_and_errors_of_options_are_those_of_a_command(folder):
    assert "[default: (that of the file)]" in " ".join(run("measure", "--help").split())
    sizes = ("--min-size", 9, "--max-size", 3)
    text = run("measure", "masks", "-o", "t.csv", *sizes, code=2)
    assert "Error: The smallest size (9) is larger than the largest (3)" in text


def test_a_pixel_size_for_planes_measures_planes(folder):
    nms.write("stack.ome.tif", np.ones((3, 8, 8), np.uint8), axes="zyx")
    assert "1 object in volumes" in run("measure", "stack.ome.tif", "-o", "volumes")
    text = run("measure", "stack.ome.tif", "-o", "planes", "--scale", "0.5,0.5")
    assert "3 objects in planes; lengths in the unit of --scale" in text
    assert "table of 3 rows" in run("info", "planes.csv")


def test_results_of_images_in_a_folder_are_measured_in_planes(folder):
    text = run("measure", "masks", "-o", "t.csv")
    run("corrupt", "masks", "-o", "same.ome.tif", "--kind", "dilate", "--radius", 0.5)
    said = run("measure", "same.ome.tif", "-o", "same.csv").splitlines()[0]
    assert said in text  # not fewer, as in a volume


def test_an_axis_without_a_name_is_z_where_volumes_are_worked_on(folder):
    masks = read("masks").data
    np.save("volume.npy", masks)
    for dims, axes in ((2, "tyx"), (3, "zyx")):
        name = f"in_{dims}.ome.tif"
        noise = ["--kind", "dilate", "--radius", 0.5, "--spatial-dims", dims]
        run("corrupt", "volume.npy", "-o", name, *noise)
        assert read(name).axes == axes
        run("density", "volume.npy", "-o", f"d_{name}", "--spatial-dims", dims)
        assert read(f"d_{name}").axes == f"c{axes}"
        more = ["--objects", f"o_{name}", "--spatial-dims", dims]
        run("measure", "volume.npy", "-o", f"{dims}.csv", *more)
        assert read(f"o_{name}").axes == axes
    options = ["--channels", 4, "--depth", 3, "--patch-size", 16, "--min-steps", 1, "--epochs", 1]
    run("train", "volume.npy", "volume.npy", "-o", "m", "--spatial-dims", 3, *options, "--quiet")
    run("predict", "m.safetensors", "volume.npy", "-o", "p.ome.zarr", "--quiet")
    assert read("p.ome.zarr").axes == "zyx"


def test_probabilities_of_classes_over_time(folder):
    masks = read("masks").data
    classes = np.where(np.arange(48) < 24, masks, 2 * masks).astype(np.uint8)
    nms.write("movie.ome.tif", read("images").data, axes="tyx")
    nms.write("classes.ome.tif", classes, axes="tyx")
    options = ["--epochs", 1, "--channels", 4, "--depth", 3, "--patch-size", 32, "--min-steps", 1]
    run("train", "movie.ome.tif", "classes.ome.tif", "-o", "m", *options, "--quiet")
    scores = []
    for name in ("p.ome.tif", "p.ome.zarr", "p"):
        run("predict", "m.safetensors", "movie.ome.tif", "--probabilities", name, "--quiet")
        text = run("compare", "classes.ome.tif", name, "--quiet")
        scores.append([line for line in text.splitlines() if line.startswith("class ")])
    assert len(scores[0]) == 2
    assert scores[0] == scores[1] == scores[2]
    run("predict", "m.safetensors", "images", "--probabilities", "by_name", "--quiet")
    assert [path.name for path in sorted((folder / "by_name").glob("*.tif"))] == [
        f"{number}.tif" for number in range(6)
    ]
    assert read("by_name/0.tif").data.shape == (3, 48, 48)


def test_a_model_of_one_channel_refuses_colours_and_tells_of_channels(folder):
    options = ["--epochs", 1, "--channels", 4, "--depth", 3, "--patch-size", 32, "--min-steps", 1]
    run("train", "images", "masks", "-o", "m", *options, "--quiet")
    colours = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    tifffile.imwrite("colours.tif", colours, photometric="rgb")
    said = "The model takes grey images, but these are in colours; save them as grey images"
    for name in ("x.npy", "x.ome.tif", "x"):
        assert said in run("predict", "m.safetensors", "colours.tif", "-o", name, code=1)
    nms.write("channels.ome.tif", np.moveaxis(colours, -1, 0), axes="cyx")
    text = run("predict", "m.safetensors", "channels.ome.tif", "-o", "x.npy")
    assert "The model takes one channel: each of the 3 is segmented on its own." in text
    assert np.load("x.npy").shape == (3, 48, 48)


def test_info_goes_on_after_a_file_that_cannot_be_read(folder):
    (folder / "bad.tif").write_bytes(b"no image")
    text = run("info", "bad.tif", "images/0.tif", code=1)
    assert "bad.tif cannot be read as TIFF" in text
    assert "48 x 48 (yx)" in text

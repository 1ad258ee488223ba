"""Batches: file by file, failures are told and the rest is done, stopped ones go on."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_metastructure as nms
from napari_metastructure.files.read import read
from napari_metastructure.jobs.events import FileDone, FileProgress, Note, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import objects
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.labels.objects import ObjectsConfig
from napari_metastructure.learning.loading import load_model
from napari_metastructure.learning.training import train
from napari_metastructure.runs.batch import Batch, batch, plan
from napari_metastructure.runs.operations import perform
from napari_metastructure.runs.run import Run
from tests.cli.test_main import run

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = ["control/a2.tif", "control/a10.tif", "drug/a2.tif", "drug/a3.tif"]


@pytest.fixture
def plates(tmp_path, blobs, monkeypatch):
    """The present folder, with images and masks in the folders of two groups."""
    images, masks = blobs(4, seed=0, size=48)
    for name, stack in (("images", images), ("masks", masks)):
        for file, plane in zip(FILES, stack):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, plane)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(plates, blobs):
    images, masks = blobs(4, seed=0, size=48)
    settings = {"channels": 4, "depth": 3, "patch_size": 32, "min_steps": 1, "device": "cpu"}
    done = train(images, masks, epochs=1, **settings, seed=0).run(hidden=True)
    done.model.save(plates / "m.safetensors")
    return plates / "m.safetensors"


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.ome.tif")}


def test_a_model_on_a_folder_gives_labels_and_one_table(plates, model):
    steps = plan([model], ("probabilities", "objects", "table"), objects=ObjectsConfig(min_size=4))
    found = batch("images", steps, "results").run(hidden=True)
    assert [row["file"] for row in found.rows] == FILES
    assert not found.failed
    network, tables = load_model(model), []
    for file in FILES:
        name = file.replace(".tif", ".ome.tif")
        image = read(plates / "images" / file).data
        labels = read(plates / "results/labels" / name).data
        np.testing.assert_array_equal(labels, network.segment(image))
        assert read(plates / "results/probabilities" / name).data.dtype == np.float32
        split = objects.split(labels, min_size=4)
        np.testing.assert_array_equal(read(plates / "results/objects" / name).data, split)
        tables.append(objects.measure(split, image))
    table = pd.read_csv("results/objects.csv")
    assert table["file"].tolist() == [f for f, t in zip(FILES, tables) for _ in range(len(t))]
    assert table["group"].tolist() == [name.split("/")[0] for name in table["file"]]
    np.testing.assert_allclose(table["area"], pd.concat(tables)["area"])
    np.testing.assert_allclose(table["intensity_mean"], pd.concat(tables)["intensity_mean"])
    counts = pd.read_csv("results/summary.csv")["count"]
    assert counts.tolist() == [len(t) for t in tables] == [row["objects"] for row in found.rows]


def test_the_console_gives_a_model_by_its_path(plates, model):
    found = nms.batch("images", model, "results", ["objects"], objects={"min_size": 4}).run(
        hidden=True
    )
    assert isinstance(found, Batch)
    assert found.summary == "4 of 4 files done, 0 failed."
    for file in FILES:
        name = file.replace(".tif", ".ome.tif")
        split = objects.split(read(plates / "results/labels" / name).data, min_size=4)
        np.testing.assert_array_equal(read(plates / "results/objects" / name).data, split)
    steps = plan([model], ["objects"], objects=ObjectsConfig(min_size=4))
    before = times(plates / "results")
    batch("images", steps, "results").run(hidden=True)  # is the same
    assert times(plates / "results") == before
    for nothing in ([], "images/control/a2.tif"):
        with pytest.raises(ValueError, match=r"\.$"):
            nms.batch("images", nothing, "other")


def test_what_is_no_image_is_told_and_the_rest_is_done(plates, model):
    (plates / "images/control/a3.tif").write_text("no image")
    (plates / "images/control/notes.txt").write_text("no image")
    (plates / "images/drug/.hidden.tif").write_text("no image")
    text = run("batch", "images", model, "-o", "results", code=1)
    assert "1 file is left out, as it is not an image: notes.txt." in text
    assert "4 of 5 files done, 1 failed." in text
    assert "control/a3.tif: images/control/a3.tif cannot be read as TIFF" in text
    before = times(plates / "results")
    assert len(before) == 4
    tifffile.imwrite(plates / "images/control/a3.tif", tifffile.imread("images/drug/a3.tif"))
    text = run("batch", "images", model, "-o", "results", "--quiet")
    assert "5 of 5 files done, 0 failed." in text
    assert before.items() <= times(plates / "results").items()
    assert pd.read_csv("results/summary.csv")["file"].nunique() == 5


def test_whatever_fails_the_rest_is_done(plates, model, monkeypatch):
    from napari_metastructure.runs import batch as module

    perform = module.perform

    def failing(run):
        if "a10" in str(run.inputs.get("images")):
            raise IndexError("something unforeseen")
        return perform(run)

    monkeypatch.setattr(module, "perform", failing)
    found = batch("images", plan([model]), "results").run(hidden=True)
    assert [row["error"] for row in found.failed] == ["IndexError: something unforeseen"]
    assert len(found.rows) == 4


def test_a_changed_image_and_a_lost_result_are_done_again(plates, model):
    def go():
        return batch("images", plan([model]), "results").run(hidden=True)

    go()
    before = times(plates / "results")
    tifffile.imwrite("images/drug/a2.tif", tifffile.imread("images/drug/a3.tif"))
    (plates / "results/labels/control/a2.ome.tif").unlink()
    assert not go().failed
    after = times(plates / "results")
    changed = {path.relative_to(plates / "results/labels").as_posix() for path in after}
    changed = {
        path
        for path in changed
        if after[plates / "results/labels" / path] != before[plates / "results/labels" / path]
    }
    assert changed == {"control/a2.ome.tif", "drug/a2.ome.tif"}


@pytest.mark.parametrize("where", ["between", "within"])
def test_a_stopped_batch_goes_on(plates, model, where, monkeypatch):
    whole = batch("images", plan([model]), "whole").run(hidden=True)
    job = batch("images", plan([model]), "parts")
    last = None
    for event in job:
        last = event
        if isinstance(event, FileDone) and event.done == 2:
            if where == "between":
                job.stop()
            else:
                _stop_in_prediction(job, monkeypatch)
    assert last.stopped
    assert last.value.waiting == FILES[2:]
    assert "2 of 4 files done, 0 failed.\nStopped" in last.value.summary
    assert len(times(plates / "parts")) == 2
    assert pd.read_csv("parts/summary.csv")["file"].tolist() == FILES[:2]
    monkeypatch.undo()
    monkeypatch.chdir(plates)
    lines = (plates / "parts/files.jsonl").read_text()
    (plates / "parts/files.jsonl").write_text(lines + '{"file": "drug')  # killed while it wrote
    assert not batch("images", plan([model]), "parts").run(hidden=True).waiting
    pd.testing.assert_frame_equal(
        pd.read_csv("parts/objects.csv"), pd.read_csv("whole/objects.csv")
    )
    assert len(whole.rows) == 4


def test_what_a_file_is_at_is_told_while_it_is_under_way(plates, model):
    job = batch("images", plan([model]), "results")
    events = list(job)
    told = [event for event in events if isinstance(event, FileProgress)]
    activities = [event.activity for event in told if event.done == 2]
    assert list(dict.fromkeys(activities)) == ["predicting", "measuring"]
    assert {event.total for event in told} == {4}
    assert told[0].text == "file 1 of 4: predicting"
    shares = [event.share for event in told if event.done == 2]
    assert shares == sorted(shares)  # of the file, through both steps
    assert {0, 0.5} <= set(shares)


def test_notes_of_a_step_are_those_of_its_file(plates, model, monkeypatch):
    from napari_metastructure.learning import prediction

    def noting(*arguments, **options):
        job = predict(*arguments, **options)
        return Job(lambda outer: chain([Note("Half of it.")], job))

    predict = prediction.predict
    monkeypatch.setattr(prediction, "predict", noting)
    found = batch("images", plan([model]), "results").run(hidden=True)
    assert [row["notes"] for row in found.rows] == [["Half of it."]] * 4


def test_a_batch_that_is_dropped_within_a_file_leaves_nothing_of_it(plates, model):
    job = batch("images", plan([model]), "results")
    next(event for event in job if isinstance(event, FileProgress))
    job.close()
    assert not [path for path in (plates / "results/labels").rglob("*") if path.is_file()]


def _stop_in_prediction(job, monkeypatch):
    from napari_metastructure.learning import prediction

    predict = prediction.predict

    def stopping(*arguments, **options):
        job.stop()
        return predict(*arguments, **options)

    monkeypatch.setattr(prediction, "predict", stopping)


def test_a_run_that_was_stopped_before_it_began_says_so(plates, monkeypatch):
    stopped = Job(lambda job: (event for event in [Result(None, stopped=True)]))
    monkeypatch.setattr("napari_metastructure.learning.training.train", lambda *_, **__: stopped)
    with pytest.raises(ValueError, match="before its first step, so there is no result"):
        recorded(
            "train",
            {"images": "images/control/a2.tif", "labels": "masks/control/a2.tif"},
            {"model": "new.safetensors"},
            nms.TrainingConfig(),
        )
    assert not (plates / "new.safetensors").exists()


def recorded(operation, inputs, outputs, config=None, **options):
    perform(Run(operation, inputs, outputs, config, options, quiet=True))
    return f"{next(iter(outputs.values()))}.record.json"


def test_recorded_steps_follow_each_other(plates):
    """Noise is drawn anew for each file; what one step gave is what the next one takes."""
    masks = "masks/control/a2.tif"
    spec = NoiseSpec(kind="flip", ratio=0.2, seed=3)
    flipped = recorded("corrupt", {"labels": masks}, {"output": "n.tif"}, spec)
    measured = recorded(
        "measure",
        {"labels": "n.tif"},
        {"output": "t.csv"},
        ObjectsConfig(min_size=3),
        numbered=False,
        skeleton=False,
    )
    found = batch("masks", plan([measured, flipped]), "results").run(hidden=True)
    assert not found.failed, found.summary
    noisy = [read(f"results/noisy/{file.replace('.tif', '.ome.tif')}").data for file in FILES]
    flips = [a != read(f"masks/{file}").data for a, file in zip(noisy, FILES)]
    assert all(0.1 < flip.mean() < 0.3 for flip in flips)
    assert (flips[0] != flips[1]).any()
    expected = [len(objects.measure(objects.split(a, min_size=3))) for a in noisy]
    assert [row["objects"] for row in found.rows] == expected
    again = batch("masks", plan([flipped]), "again").run(hidden=True)
    assert not again.failed
    np.testing.assert_array_equal(read("again/noisy/drug/a3.ome.tif").data, noisy[3])


def test_labels_are_made_before_they_are_measured(plates, model):
    """Also where those of the records were of other files, and measured first."""
    masks, image = {"labels": "masks/control/a2.tif"}, "images/control/a2.tif"
    options = {"numbered": False, "skeleton": False}
    measured = recorded("measure", masks, {"output": "t.csv"}, ObjectsConfig(), **options)
    inputs = {"model": str(model), "images": image}
    predicted = recorded("predict", inputs, {"output": "p.tif"}, None)
    steps = plan([measured, predicted])
    assert [step.operation for step in steps] == ["predict", "measure"]
    assert steps[1].inputs["labels"] == (0, "output")


def test_each_file_has_its_own_pixel_size(plates):
    measured = recorded(
        "measure",
        {"labels": "masks/drug/a2.tif"},
        {"output": "t.csv"},
        ObjectsConfig(),
        numbered=False,
        skeleton=False,
    )
    plane = (tifffile.imread("masks/drug/a2.tif") > 0).astype(np.uint8)
    facts = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    facts |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    (plates / "more").mkdir()
    tifffile.imwrite("more/fine.ome.tif", plane, metadata=facts)
    tifffile.imwrite("more/plain.tif", plane)
    batch("more", plan([measured]), "results").run(hidden=True)
    table = pd.read_csv("results/objects.csv").set_index("file")
    assert set(table["unit"]["fine.ome.tif"]) == {"micrometer"}
    np.testing.assert_allclose(4 * table["area"]["fine.ome.tif"], table["area"]["plain.tif"])


def test_intensities_of_each_channel(plates):
    image = np.zeros((2, 8, 8), np.float32)
    image[:, 2:5, 2:5] = [[[3]], [[7]]]
    tifffile.imwrite("c.ome.tif", image, metadata={"axes": "CYX"})
    tifffile.imwrite("c_mask.tif", (image[0] > 0).astype(np.uint8))
    run("measure", "c_mask.tif", "-o", "c.csv", "--images", "c.ome.tif")
    table = pd.read_csv("c.csv")
    assert table[["channel_0_mean", "channel_1_mean"]].to_numpy().tolist() == [[3, 7]]


def test_files_of_one_name_have_a_result_each(plates, model):
    folder = plates / "images/control"
    np.save(folder / "a2.npy", tifffile.imread(folder / "a2.tif"))
    np.save(folder / "a2_tif.npy", tifffile.imread(folder / "a2.tif"))
    found = batch("images", plan([model], ()), "results").run(hidden=True)
    assert len({row["outputs"]["labels"] for row in found.rows}) == 6
    results = {row["file"]: row["outputs"]["labels"] for row in found.rows}
    assert results["control/a2_tif.npy"] == "labels/control/a2_tif_npy.ome.tif"
    assert results["control/a10.tif"] == "labels/control/a10.ome.tif"
    assert found.tables == []


def write(path, record):
    known = {"config": {}, "options": {}, "inputs": {}, "outputs": {}, "versions": {}}
    path.write_text(json.dumps(known | record))
    return str(path)


@pytest.mark.parametrize(
    ("operation", "roles", "message"),
    [
        ("train", (), "is the record of a training; give its model"),
        ("compare", (), "cannot be used in a batch"),
        ("segment", ("images", "strokes"), "was trained on strokes or labels of its own images"),
        ("density", ("labels", "clean"), "The clean of a recorded step"),
        ("measure", ("labels", "images"), "The images of a recorded step"),
    ],
)
def test_what_does_not_fit_other_files_is_refused(tmp_path, operation, roles, message):
    inputs = {role: {"path": f"{role}.tif", "sha256": "0"} for role in roles}
    path = write(tmp_path / "r.record.json", {"operation": operation, "inputs": inputs})
    with pytest.raises(ValueError, match=message):
        plan([path])


def test_folders_that_do_not_fit_are_refused(plates, model):
    steps = plan([model])
    (plates / "empty").mkdir()
    for images, folder, message in (
        ("empty", "results", "There is no image in empty"),
        ("images", "images", "need a folder each"),
        ("images", "masks", "holds other files, such as control"),
        ("images", "m.safetensors", "is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            batch(images, steps, folder)
    batch("images", steps, "results").run(hidden=True)
    with pytest.raises(ValueError, match="holds a batch of other steps"):
        batch("images", plan([model], ()), "results")
    with pytest.raises(ValueError, match="Give a model, or the record"):
        plan([])
    with pytest.raises(FileNotFoundError, match="There is no model"):
        plan(["gone.safetensors"])


def test_results_may_lie_in_the_folder_of_images(plates, model):
    for _ in range(2):
        found = batch("images", plan([model]), "images/results").run(hidden=True)
        assert [row["file"] for row in found.rows] == FILES


def test_results_of_an_earlier_batch_are_no_images(plates, model):
    batch("images", plan([model]), "images/results").run(hidden=True)
    text = run("batch", "images", model, "-o", "others", "--quiet")
    assert "4 of 4 files done, 0 failed." in text
    found = batch("images", plan([model]), "third")
    notes = [event.text for event in found if isinstance(event, Note)]
    such = "such as results/labels/control/a2.ome.tif"
    assert f"4 results of this program are left out ({such})." in notes
    found = batch("images/results/labels", plan([model]), "on_labels").run(hidden=True)
    assert len(found.rows) == 4  # nothing else is there


def test_links_to_folders_are_followed_and_broken_ones_told(plates, model):
    (plates / "images/linked").symlink_to(plates / "masks/drug")
    (plates / "images/drug/back").symlink_to(plates)
    (plates / "images/drug/lost.tif").symlink_to("nowhere.tif")
    text = run("batch", "images", model, "-o", "results")
    assert "6 of 6 files done, 0 failed." in text
    assert "1 file is left out, as it is a link that leads nowhere: lost.tif." in text
    assert (plates / "results/labels/linked/a2.ome.tif").exists()


@pytest.fixture
def channelled(tmp_path, blobs, monkeypatch):
    """A data set of nnU-Net with two channels, a model of it, and images to apply it to."""
    images, masks = blobs(6, seed=0, size=48)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks)):
        for channel, plane in enumerate((image, image[::-1])):
            where = "imagesTr" if number < 4 else "imagesTs"
            tifffile.imwrite(tmp_path / "set" / where / f"cell_{number}_{channel:04}.tif", plane)
        if number < 4:
            tifffile.imwrite(tmp_path / "set/labelsTr" / f"cell_{number}.tif", mask)
    settings = {"channels": 4, "depth": 3, "patch_size": 32, "min_steps": 1, "device": "cpu"}
    pairs = np.stack([images, images[:, ::-1]], 1)[:4]
    done = train(pairs, masks[:4], epochs=1, channel_axis=1, **settings, seed=0).run(hidden=True)
    done.model.save(tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    return images


def test_files_that_are_channels_of_an_image_are_one(channelled):
    text = run("batch", "set", "m.safetensors", "-o", "results", "--objects")
    assert "6 of 6 files done, 0 failed." in text
    assert "6 images of 2 channels (imagesTr/cell_0_0000.tif to cell_0_0001.tif)." in text
    assert "4 masks are left out (such as labelsTr/cell_0.tif); the steps take images." in text
    network = load_model("m.safetensors")
    for number, image in enumerate(channelled):
        where = "imagesTr" if number < 4 else "imagesTs"
        labels = read(f"results/labels/{where}/cell_{number}.ome.tif").data
        network.channel_axis = 0
        np.testing.assert_array_equal(labels, network.segment(np.stack([image, image[::-1]])))
    table = pd.read_csv("results/objects.csv")
    assert "channel_1_max" in table
    files = {f"imagesTr/cell_{n}.tif" for n in range(4)} | {
        "imagesTs/cell_4.tif",
        "imagesTs/cell_5.tif",
    }
    assert set(table["file"]) <= files
    record = "results/labels/imagesTs/cell_4.ome.tif.record.json"
    assert "the same, bit for bit" in run("replay", record)
    before = times(Path("results"))
    run("batch", "set", "m.safetensors", "-o", "results", "--objects", "--quiet")
    assert times(Path("results")) == before
    tifffile.imwrite("set/imagesTs/cell_5_0001.tif", channelled[0])  # one channel of one image
    run("batch", "set", "m.safetensors", "-o", "results", "--objects", "--quiet")
    changed = [path for path, when in times(Path("results")).items() if when != before[path]]
    assert {path.name for path in changed} == {"cell_5.ome.tif"}


def test_masks_are_taken_where_the_steps_take_labels(plates):
    for file in FILES:
        run(
            "corrupt", f"masks/{file}", "-o", "once.tif", "--kind", "flip", "--quiet", "--overwrite"
        )
    (plates / "both").mkdir()
    (plates / "images").rename(plates / "both" / "images")
    (plates / "masks").rename(plates / "both" / "masks")
    found = batch("both", plan(["once.tif.record.json"]), "noisy").run(hidden=True)
    assert [row["file"] for row in found.rows] == [f"masks/{file}" for file in FILES]
    assert not found.failed

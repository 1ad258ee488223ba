"""The noise sweep: its plan, its table, what it keeps, resumes and survives."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure import SweepConfig
from napari_metastructure.jobs.events import Progress, Result, Scored
from napari_metastructure.sweep import one_run, report
from napari_metastructure.sweep import sweep as sweeping
from napari_metastructure.sweep.plan import SweepRun, plan
from napari_metastructure.sweep.sweep import as_images, sweep

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {
    "channels": 4,
    "depth": 3,
    "patch_size": 32,
    "epochs": 1,
    "min_steps": 4,
    "device": "cpu",
    "sample": (0.5,),
    "flip": (0.3,),
    "dilate": (2,),
    "erode": (),
    "skeletonize": False,
    "random": True,
    "seeds": 1,
}
FEW = {**TINY, "dilate": (), "flip": ()}  # clean, sample, random


@pytest.fixture(scope="module")
def task(blobs):
    return blobs(8, seed=0, size=48)


def finish(job):
    """The sweep, and its rows as they came."""
    events = list(job)
    assert isinstance(events[-1], Result)
    return events[-1].value, [event for event in events if isinstance(event, Scored)]


def without_time(table):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def test_plan_puts_every_noise_before_the_next_seed():
    runs = plan(SweepConfig(**TINY | {"seeds": 2, "seed": 5}))
    assert runs[:5] == [
        SweepRun("clean", None, 5),
        SweepRun("sample", 0.5, 5),
        SweepRun("flip", 0.3, 5),
        SweepRun("dilate", 2, 5),
        SweepRun("random", None, 5),
    ]
    assert [run.seed for run in runs] == [5] * 5 + [6] * 5


def test_amounts_without_effect_are_the_clean_run():
    runs = plan(SweepConfig(**TINY | {"sample": (1, 0.5, 0.5), "flip": (0,), "dilate": (0,)}))
    assert [run.kind for run in runs] == ["clean", "sample", "random"]


@pytest.fixture(scope="module")
def swept(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    found, scored = finish(sweep(*task, TINY, folder=folder))
    return found, scored, folder


def test_table(swept):
    found, scored, _ = swept
    assert [tuple(row) for row in found.table] == [report.COLUMNS] * 5
    assert [row["status"] for row in found.table] == ["done"] * 5
    assert not found.stopped
    rank = {row["kind"]: row["rank"] for row in found.table}
    assert rank == {"clean": 2, "sample": 2, "flip": 2, "dilate": 2, "random": 1}
    merit = {row["kind"]: row["figure_of_merit"] for row in found.table}
    assert merit["clean"] == 1
    assert merit["random"] == 0
    assert merit["dilate"] < merit["sample"]
    assert [event.row for event in scored] == found.table
    assert [event.done for event in scored] == [1, 2, 3, 4, 5]


def test_scores_are_those_of_the_predictions(swept, task):
    found, scored, _ = swept
    truth = task[1][6:]
    for row, event in zip(found.table, scored):
        scores = nms.metrics.evaluate(truth, np.stack(event.prediction))
        assert row["dice"] == pytest.approx(scores["dice"])
        assert row["iou"] == pytest.approx(scores["iou"])


def test_progress_counts_the_steps_of_all_runs(task):
    events = list(sweep(*task, FEW))
    steps = [e for e in events if isinstance(e, Progress) and e.total > 1]
    assert list(dict.fromkeys(e.done for e in steps)) == list(range(1, 13))
    assert {e.total for e in steps} == {12}


def test_runs_do_not_depend_on_their_order(task, swept, monkeypatch):
    forwards = swept[0].table
    monkeypatch.setattr(sweeping, "plan", lambda config: plan(config)[::-1])
    backwards, _ = finish(sweep(*task, TINY))
    assert without_time(backwards.table[::-1]) == without_time(forwards)


def test_stopped_sweep_resumes(task, tmp_path):
    job = sweep(*task, FEW, folder=tmp_path)
    for event in job:
        if isinstance(event, Scored):
            job.stop()
    assert event.stopped
    assert [row["kind"] for row in event.value.table] == ["clean"]
    found, scored = finish(sweep(*task, FEW, folder=tmp_path))
    assert [row["kind"] for row in found.table] == ["clean", "sample", "random"]
    assert scored[0].row == event.value.table[0]  # kept, to the second
    assert len(scored[0].prediction) == 2
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("phase", ["corrupt", "_score", "_remaining"])
def test_stop_is_obeyed_in_every_phase_of_a_run(task, phase, monkeypatch, taking_long):
    monkeypatch.setattr(one_run, phase, taking_long)
    taking_long.end_of(sweep(*task, FEW, random=False))


def test_killed_in_the_middle_of_a_line(task, tmp_path):
    finish(sweep(*task, FEW, folder=tmp_path))
    lines = tmp_path / "runs.jsonl"
    whole = lines.read_text()
    lines.write_text(whole[:-30])
    again, _ = finish(sweep(*task, FEW, folder=tmp_path))
    assert [row["kind"] for row in again.table] == ["clean", "sample", "random"]
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert without_time(rows) == without_time(map(json.loads, whole.splitlines()))


@pytest.fixture(scope="module")
def folder_of_swept(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    finish(sweep(*task, FEW, folder=folder))
    return folder


@pytest.fixture
def again(folder_of_swept, tmp_path, task):
    """A finished sweep's folder to damage, and what resumes it."""
    folder = tmp_path / "again"
    shutil.copytree(folder_of_swept, folder)
    return folder, lambda: finish(sweep(*task, FEW, folder=folder))[0]


def test_last_row_without_its_end_of_line_stays_a_row(again):
    folder, resume = again
    lines = folder / "runs.jsonl"
    whole = lines.read_text()
    lines.write_text("".join(whole.splitlines(keepends=True)[:2]).rstrip("\n"))
    assert len(resume().table) == 3
    assert without_time(resume().table) == without_time(map(json.loads, whole.splitlines()))


def test_rows_of_other_runs_do_not_count(again):
    folder, resume = again
    lines = folder / "runs.jsonl"
    row = json.loads(lines.read_text().splitlines()[1])
    with lines.open("a") as file:
        file.write(json.dumps({**row, "amount": 0.7}) + "\n")
    found = resume()
    assert len(found.table) == 3
    assert found.table[1]["amount"] == 0.5


def damaged_row(change):
    def damage(folder):
        lines = folder / "runs.jsonl"
        first, rest = lines.read_text().split("\n", 1)
        lines.write_text(f"{change(first)}\n{rest}")

    return damage


def with_value(**changes):
    return damaged_row(lambda line: json.dumps({**json.loads(line), **changes}))


def identity(text):
    return lambda folder: (folder / "identity.json").write_text(text)


def damaged_prediction(folder):
    next((folder / "predictions").iterdir()).write_bytes(b"PK")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (damaged_row(lambda line: line[:-9]), "Line 1 of .*runs.jsonl is damaged; remove it"),
        (
            damaged_row(lambda line: "[]"),
            "Line 1 of .*runs.jsonl does not belong in this file; remove it",
        ),
        (damaged_row(lambda line: "{}"), "Line 1 .* does not belong in this file"),
        (damaged_row(lambda line: '{"kind": "clean"}'), "Line 1 .* does not belong in this file"),
        (with_value(kind=["clean"]), "Line 1 .* does not belong in this file"),
        (with_value(seed="0"), "Line 1 .* does not belong in this file"),
        (with_value(dice="high"), "Line 1 .* does not belong in this file"),
        (identity(""), "identity.json cannot be read as the settings of a sweep"),
        (identity("[" * 10**5), "identity.json cannot be read as .*: it is nested too deeply"),
        (identity("[]"), "identity.json does not hold the settings of a sweep"),
        (identity('{"settings": 3}'), "identity.json does not hold the settings of a sweep"),
        (identity('{"settings": {}}'), "holds a sweep of other images or labels"),
        (damaged_prediction, r"\.npz cannot be read as image: it is damaged"),
    ],
)
def test_damaged_folder_is_told_in_a_sentence(again, damage, text):
    folder, resume = again
    damage(folder)
    with pytest.raises(ValueError, match=text) as error:
        resume()
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_more_seeds_are_added(task, tmp_path):
    finish(sweep(*task, FEW, folder=tmp_path))
    before = (tmp_path / "runs.jsonl").read_text()
    found, _ = finish(sweep(*task, FEW, seeds=2, folder=tmp_path))
    assert len(found.table) == 6
    assert (tmp_path / "runs.jsonl").read_text().startswith(before)


def test_other_data_or_settings_are_refused(task, tmp_path):
    finish(sweep(*task, FEW, folder=tmp_path))
    images, masks = task
    with pytest.raises(ValueError, match="other images or labels; choose another folder"):
        list(sweep(images, 1 - masks, FEW, folder=tmp_path))
    with pytest.raises(ValueError, match="another channels; choose another folder"):
        list(sweep(images, masks, FEW, channels=8, folder=tmp_path))
    with pytest.raises(ValueError, match="another validation_fraction; choose another folder"):
        list(sweep(images, masks, FEW, validation_fraction=0.5, folder=tmp_path))


def test_second_sweep_in_the_folder_of_a_running_one_is_refused(task, tmp_path):
    job = sweep(*task, FEW, folder=tmp_path)
    while not isinstance(next(job), Scored):
        pass
    with pytest.raises(ValueError, match=r"Another sweep is running in .*; wait until it ends"):
        list(sweep(*task, FEW, folder=tmp_path))
    code = (
        "import filelock, sys\n"
        "try: filelock.FileLock(sys.argv[1], timeout=0).acquire()\n"
        "except filelock.Timeout: print('held')"
    )
    lock = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    assert subprocess.run(lock, capture_output=True, text=True).stdout == "held\n"
    job.close()
    found, _ = finish(sweep(*task, FEW, folder=tmp_path))
    assert not found.stopped


def test_failed_run_is_recorded_and_the_rest_go_on(task, tmp_path, monkeypatch):
    usual = one_run.corrupt

    def broken(labels, spec):
        if spec.kind == "sample":
            raise RuntimeError("out of luck\nand more")
        return usual(labels, spec)

    monkeypatch.setattr(one_run, "corrupt", broken)
    found, _ = finish(sweep(*task, FEW, folder=tmp_path))
    assert [row["status"] for row in found.table] == ["done", "failed", "done"]
    assert found.table[1]["error"] == "out of luck"
    assert found.table[1]["dice"] is None
    assert "1 of 3 runs failed" in found.summary
    monkeypatch.undo()  # a second call tries it again
    found, _ = finish(sweep(*task, FEW, folder=tmp_path))
    assert [row["status"] for row in found.table] == ["done"] * 3


def test_time_limit_leaves_out_what_has_not_begun(task):
    found, _ = finish(sweep(*task, FEW, time_limit=1e-9))
    assert found.stopped
    assert found.table == []
    assert found.summary == "No network has been trained on the clean labels yet."


def test_several_classes_with_gaps_and_ignored_pixels(task):
    images, masks = task
    labels = (masks * 5).astype(np.int16)
    labels[:, :16] *= 2  # classes 5 and 10
    labels[:, :, :4] = -1
    found, scored = finish(sweep(images, labels, FEW, skeletonize=True))
    clean = found.table[0]
    assert clean["rank"] == 3
    assert clean["threshold"] is None
    assert 0 <= clean["dice"] <= 1
    assert set(np.unique(scored[0].prediction)) <= {0, 5, 10}
    assert found.record["classes"] == [0, 5, 10]
    assert found.table[-1]["rank"] == 1


def test_given_validation_images(task, blobs):
    others = blobs(3, seed=1, size=40)
    found, scored = finish(
        sweep(*task, FEW, validation_images=others[0], validation_labels=others[1])
    )
    assert found.record["trained_on"] == 8
    assert [mask.shape for mask in scored[0].prediction] == [(40, 40)] * 3


def test_images_of_several_sizes(blobs):
    big, small = blobs(3, seed=0, size=48), blobs(3, seed=1, size=40)
    found, scored = finish(sweep([*big[0], *small[0]], [*big[1], *small[1]], FEW))
    assert [row["status"] for row in found.table] == ["done"] * 3
    assert {mask.shape for mask in scored[0].prediction} == {(40, 40)}


def test_images_with_channels(task):
    images, masks = task
    both = np.stack([images, images[:, ::-1]], axis=1)
    found, scored = finish(sweep(both, masks, FEW, channel_axis=1))
    assert [row["status"] for row in found.table] == ["done"] * 3
    assert [mask.shape for mask in scored[0].prediction] == [(48, 48)] * 2
    assert found.pictures["image"].shape == (48, 48)


def test_predictions_go_back_to_their_planes():
    config = SweepConfig(**TINY)
    masks = [np.full((4, 5), value, np.uint8) for value in (1, 2)]
    (whole,) = as_images(masks, [(2, 4, 4, 5)], config)
    assert whole.shape == (2, 4, 4, 5)
    assert not whole[0].any()
    assert not whole[1, :2].any()
    np.testing.assert_array_equal(whole[1, 2:], masks)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"validation_fraction": 0}, "raise validation_fraction above 0."),
        ({"sample": (2,)}, "less than or equal to 1"),
    ],
)
def test_bad_settings(task, change, text):
    with pytest.raises(ValueError, match=text):
        list(sweep(*task, FEW, **change))


def test_scheduler_that_does_not_answer(task, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_metastructure.jobs.cluster._SECONDS_TO_CONNECT", 0.5)
    with pytest.raises(ConnectionError, match=r"no dask scheduler at tcp://127\.0\.0\.1:1"):
        list(sweep(*task, FEW, scheduler="tcp://127.0.0.1:1"))


def test_labels_without_objects(task):
    with pytest.raises(ValueError, match="hold no object"):
        list(sweep(task[0], np.zeros_like(task[1]), FEW))


def test_public_name_is_the_function(task):
    assert nms.sweep is sweep
    assert isinstance(next(nms.sweep(*task, FEW)), Progress)


# ----------------------------------------------------------------- report


def test_report_opens_and_holds_its_pictures(swept, tmp_path):
    found, _, _ = swept
    page = found.save(tmp_path / "report").read_text()
    assert page.count("data:image/png;base64,") == 1 + 2 + 5  # curves, image and truth, runs
    assert "http://" not in page
    assert "https://" not in page
    assert found.summary in page
    with open(tmp_path / "report" / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [row["kind"] for row in found.table]
    assert float(rows[1]["amount"]) == 0.5
    assert (tmp_path / "report" / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "report" / "sweep.svg").read_text()
    record = json.loads((tmp_path / "report" / "sweep.json").read_text())
    assert record["table"] == found.table


# ----------------------------------------------------------------- cluster


def test_cluster_survives_a_killed_worker(task, swept, tmp_path):
    """Two worker processes, one of them killed: nothing lost, nothing twice."""
    distributed = pytest.importorskip("distributed")
    options = {**FEW, "seeds": 2}
    with (
        distributed.LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(_one_thread)
        pids = list(client.run(os.getpid).values())
        job = sweep(*task, options, folder=tmp_path, client=client)
        killed = False
        for event in job:
            if isinstance(event, Scored) and not killed:
                os.kill(pids[0], signal.SIGKILL)
                killed = True
    found = event.value
    assert killed
    assert not found.stopped
    assert [row["status"] for row in found.table] == ["done"] * 6
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    keys = [tuple(json.loads(line)[name] for name in ("kind", "amount", "seed")) for line in lines]
    assert len(set(keys)) == len(keys) == 6
    assert [row["kind"] for row in found.table] == ["clean", "sample", "random"] * 2
    here = {row["kind"]: row["auc"] for row in swept[0].table}
    for row in found.table[:3]:  # another process rounds in another way
        assert here[row["kind"]] == pytest.approx(row["auc"], abs=0.02)


def _one_thread():
    import torch

    torch.set_num_threads(1)

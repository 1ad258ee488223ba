import numpy as np
import pytest

from napari_metastructure.jobs import cluster
from napari_metastructure.jobs.events import Note, Progress, Result
from napari_metastructure.labels import density, noise

pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")

import dask.array as da  # noqa: E402

from napari_metastructure.files.ome_zarr import create_image, open_image  # noqa: E402

LABELS = np.random.default_rng(0).integers(0, 2, (6, 40, 36)).astype(np.uint8)
LAZY = da.from_array(LABELS, chunks=(1, 20, 36))


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def last(job):
    events = list(job)
    assert isinstance(events[0], Progress)
    assert isinstance(events[-1], Result)
    return events[-1]


@pytest.mark.parametrize("where", ["here", "there"])
def test_corruption_and_density_are_those_in_memory(client, tmp_path, where):
    client = client if where == "there" else None
    spec = noise.NoiseSpec(kind="dilate", radius=2)
    out = create_image(tmp_path / "noisy.ome.zarr", LABELS.shape, "uint8")
    last(cluster.store(noise.corrupt(LAZY, spec), out, client))
    np.testing.assert_array_equal(open_image(out.path)[:], noise.corrupt(LABELS, spec))
    maps = density.observed(LAZY, 3, classes=[0, 1])
    out = create_image(tmp_path / "maps.ome.zarr", maps.shape, "float32", axes="czyx")
    last(cluster.store(maps, out, client))
    expected = density.observed(LABELS, 3, classes=[0, 1])
    np.testing.assert_allclose(open_image(out.path)[:], expected, atol=1e-6)


def _slow(block):
    import time

    time.sleep(0.2)
    return block


@pytest.mark.parametrize("where", ["here", "there"])
def test_stop_keeps_what_is_done_and_marks_it(client, tmp_path, where):
    out = create_image(tmp_path / "out.ome.zarr", LABELS.shape, "uint8", chunks=(1, 10, 10))
    job = cluster.store(LAZY.map_blocks(_slow), out, client if where == "there" else None)
    for event in job:
        if isinstance(event, Progress) and event.done:
            job.stop()
    assert event.stopped
    written = open_image(out.path, missing="fill")
    assert not written.complete
    assert "stopped after" in written.record["stopped"]
    assert 0 < np.count_nonzero(written[:]) < np.count_nonzero(LABELS)


def test_failing_block_is_one_sentence(client, tmp_path):
    def fail(block):
        raise ValueError("no such pixel.")

    lazy = LAZY.map_blocks(fail, meta=np.empty((0, 0, 0), "uint8"))
    for where in (client, None):
        out = create_image(tmp_path / f"{where is None}.ome.zarr", LABELS.shape, "uint8")
        with pytest.raises(
            RuntimeError, match=r"^no such pixel; 0 of 6 blocks are in .*partial\.$"
        ):
            list(cluster.store(lazy, out, where))


def test_no_scheduler_is_one_sentence():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "Client", _refuse)
        with pytest.raises(ConnectionError, match=r"no dask scheduler at tcp://127\.0\.0\.1:9"):
            cluster.connect("tcp://127.0.0.1:9")


def test_a_missing_scheduler_file_is_told_at_once(tmp_path):
    with pytest.raises(ConnectionError, match=r"no scheduler file .*s\.json; give the one that"):
        cluster.connect(str(tmp_path / "s.json"))


def test_a_scheduler_without_workers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 1)
    options = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(protocol="tcp", **options) as local,
        pytest.raises(ConnectionError, match=r"has no worker; start some: dask worker tcp"),
    ):
        cluster.connect(local.scheduler_address)


def _missing(_name):
    raise cluster.PackageNotFoundError("napari-metastructure")


@pytest.mark.parametrize(
    ("on_workers", "what"),
    [(lambda _: "0.0.1", "has napari-metastructure 0.0.1, this process"), (_missing, "lacks nap")],
)
def test_workers_of_another_version_or_without_the_package(client, monkeypatch, on_workers, what):
    class Workers(distributed.Client):
        def run(self, _function, *arguments, **options):
            return super().run(on_workers, *arguments, **options)

    monkeypatch.setattr(distributed, "Client", Workers)
    with pytest.raises(ConnectionError, match=f"The worker tcp.* {what}.*; install"):
        cluster.connect(client.scheduler.address, for_all=False)
    monkeypatch.undo()
    cluster.connect(client.scheduler.address, for_all=False).close()


def _refuse(*_, **__):
    raise OSError("Timed out trying to connect to tcp://127.0.0.1:9 after 20 s")


def test_the_last_worker_is_lost_and_another_comes(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "_SECONDS_TO_WONDER", 0.3)
    out = create_image(tmp_path / "out.ome.zarr", LABELS.shape, "uint8", chunks=(1, 10, 10))
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as local,
        distributed.Client(local) as client,
    ):
        local.scale(0)
        client.sync(local._correct_state)
        notes = []
        for event in cluster.store(LAZY, out, client):
            if isinstance(event, Note):
                notes.append(event.text)
                local.scale(1)
    assert len(notes) == 1
    assert "has lost its last worker" in notes[0]
    np.testing.assert_array_equal(open_image(out.path)[:], LABELS)
    assert open_image(out.path).complete


def test_scheduler_that_goes_away_leaves_a_partial_image(tmp_path):
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    local = distributed.LocalCluster(processes=False, protocol="tcp", **options)
    client = distributed.Client(local.scheduler_address)
    out = create_image(tmp_path / "out.ome.zarr", LABELS.shape, "uint8", chunks=(1, 10, 10))
    try:
        job = cluster.store(LAZY.map_blocks(_slow), out, client)
        while next(job).done < 2:
            pass
        local.close()
        with pytest.raises(RuntimeError, match=r"scheduler was lost.* blocks are .*partial\."):
            list(job)
        written = open_image(out.path, missing="fill")
        assert not written.complete
        assert np.count_nonzero(written[:])
    finally:
        local.close()
        client.close()

import numpy as np
import pytest

from napari_metastructure import train
from napari_metastructure.learning import cluster_prediction

pytest.importorskip("zarr")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

from napari_metastructure.files.ome_zarr import create_image, open_image  # noqa: E402


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def model(blobs, one_thread):
    images, masks = blobs(4, seed=0, size=32)
    config = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 1, "min_steps": 1, "seed": 0}
    *_, done = train(images, masks, device="cpu", **config)
    return done.model


def test_prediction_on_a_cluster_is_that_of_one_machine(client, model, blobs, tmp_path):
    images, _ = blobs(5, seed=3, size=48)
    for labels, dtype in ((False, "float32"), (True, "uint8")):
        out = create_image(tmp_path / f"{dtype}.ome.zarr", images.shape, dtype)
        *_, result = cluster_prediction.predict(model, images, out, client, labels=labels)
        assert not result.stopped
        expected = model.predict(images, labels=labels)
        written = open_image(out.path)
        assert written.complete
        np.testing.assert_allclose(written[:], expected, atol=1e-6)
    used = client.run(lambda: [type(m).__name__ for m in cluster_prediction._MODELS.values()])
    assert sorted(used.values()) == [["SegmentationModel"]] * 2  # one per worker, for both runs


@pytest.mark.parametrize("classes", [2, 3])
def test_rows_of_large_planes_are_tasks(client, model, blobs, tmp_path, monkeypatch, classes):
    """Each chunk has one writer, and the rows fit together."""
    monkeypatch.setattr(cluster_prediction, "_MOST_PIXELS", 40 * 96)
    if classes == 3:
        images, masks = blobs(4, seed=0, size=32)
        masks = masks * (1 + (np.arange(4) % 2)[:, None, None])
        config = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 1, "min_steps": 1}
        model = train(images, masks, device="cpu", seed=0, **config).run(hidden=True).model
    images, _ = blobs(2, seed=3, size=96)
    lazy = da.from_array(images, (2, 31, 50))
    shape = (*(3,) * (classes == 3), *images.shape)
    chunks = (*(3,) * (classes == 3), 1, 32, 96)
    out = create_image(tmp_path / "rows.ome.zarr", shape, "float32", chunks=chunks)
    events = list(cluster_prediction.predict(model, lazy, out, client))
    assert events[-2].total == 4  # two parts of 64 and 32 rows of each plane
    np.testing.assert_allclose(open_image(out.path)[:], model.predict(images), atol=1e-5)

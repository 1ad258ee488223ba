"""Channels, regions and volumes end to end: train, predict, segment, save and load."""

import dask.array as da
import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.loading import load_model
from napari_metastructure.learning.patches import PatchSampler

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {
    "channels": 4,
    "depth": 3,
    "patch_size": 32,
    "batch_size": 4,
    "epochs": 6,
    "min_steps": 1,
    "learning_rate": 2e-2,
    "device": "cpu",
    "seed": 0,
}


def last(job):
    *_, done = job
    return done


@pytest.fixture(scope="module")
def two_channels(blobs):
    """Images (n, c, y, x) whose object is bright in one channel but not in the other."""
    first, _ = blobs(8, seed=1)
    second, other = blobs(8, seed=2)
    both = np.stack([first, second], axis=1)
    return both, other


def test_the_network_sees_all_channels(two_channels, tmp_path):
    images, masks = two_channels
    model = last(nms.train(images, masks, channel_axis=1, **{**TINY, "epochs": 12})).model
    probability = model.predict(images)
    assert probability.shape == masks.shape
    assert evaluate(masks, probability)["auc"] > 0.9
    alone = last(nms.train(images[:, 0], masks, **TINY)).model  # the channel that says nothing
    assert evaluate(masks, alone.predict(images[:, 0]))["auc"] < 0.7

    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", "cpu")
    assert (loaded.channel_axis, loaded.in_channels) == (1, 2)
    lazy = da.from_array(images, chunks=(1, 1, 64, 64))
    np.testing.assert_allclose(loaded.predict(lazy), probability, atol=1e-6)
    with pytest.raises(ValueError, match="needs 2 channels along axis 1"):
        loaded.predict(np.zeros((2, 3, 32, 32)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_wherever_the_channel_axis_lies(two_channels, axis):
    images, masks = (part[:2, ..., :32, :32] for part in two_channels)
    moved = np.moveaxis(images, 1, axis)
    params = {**TINY, "epochs": 1, "validation_fraction": 0}
    model = last(nms.train(moved, masks, channel_axis=axis, **params)).model
    reference = last(nms.train(images, masks, channel_axis=1, **params)).model
    np.testing.assert_allclose(model.predict(moved), reference.predict(images), atol=1e-6)


def test_each_channel_is_normalised_by_itself(two_channels):
    images, masks = two_channels
    scaled = images * np.array([[[1]], [[50]]])
    items, others = (Items.of(i, masks, channel_axis=1) for i in (images, scaled))
    np.testing.assert_allclose(items.image(3), others.image(3), atol=1e-4)
    np.testing.assert_allclose(items.image(3).mean((1, 2)), 0, atol=1e-4)
    assert items.image(3).dtype == np.float32
    assert items.image(3, (slice(4), slice(5))).shape == (2, 4, 5)


def test_labels_have_no_channels(two_channels):
    images, masks = two_channels
    with pytest.raises(ValueError, match=r"without its channels, equal"):
        Items.of(images, masks[:4], channel_axis=1)
    with pytest.raises(ValueError, match="same number of channels"):
        Items.of([images[0], images[1, :1]], [masks[0], masks[1]], channel_axis=0)


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_unsupervised_on_channels(two_channels, mode):
    images, masks = two_channels
    params = {**TINY, "epochs": 2, "channel_axis": 1, "start_channel": 1, "polarity": "bright"}
    done = last(nms.segment(images[:4], mode=mode, start="otsu", **params))
    assert done.masks[0].shape == masks[:4].shape
    assert done.probabilities[0].shape == masks[:4].shape
    if mode == "robust":
        otsu = [filter_mask(image, "otsu") for image in images[:4, 1]]
        assert evaluate(np.stack(otsu).astype(int), done.masks[0])["dice"] > 0.6
        mean = last(nms.segment(images[:2], start="otsu", **{**params, "start_channel": None}))
        assert mean.masks[0].shape == masks[:2].shape
    with pytest.raises(ValueError, match="no channel 2"):
        list(nms.segment(images[:2], **{**params, "start_channel": 2}))


def test_a_region_is_all_that_counts(blobs):
    images, masks = blobs(2, seed=3)
    labels = np.full(masks.shape, -1)
    labels[1, 40:52, 5:30] = masks[1, 40:52, 5:30]
    items = Items.of(images, labels)
    counted = items.within(items.boxes_that_count())
    assert len(counted) == 1
    assert counted.box(0) == (slice(40, 52), slice(5, 30))
    sampler = PatchSampler(counted, [0, 1], patch_size=16, batch_size=32, foreground=0, seed=0)
    _, targets = sampler.batch()
    assert (targets >= 0).any(axis=(1, 2)).all()
    training, held_back = counted.split(0.2)  # cut inside the region
    np.testing.assert_array_equal(training.labels[0], labels[1, :, :25])
    assert training.box(0) == (slice(40, 52), slice(5, 25))
    assert held_back.box(0) == (slice(40, 52), slice(0, 5))
    with pytest.raises(ValueError, match="All pixels of the labels are ignored"):
        last(nms.train(images, np.full(masks.shape, -1), **TINY))
    done = last(nms.train(images, labels, **{**TINY, "epochs": 1}))
    assert done.record["images"] == 1
    assert done.record["validation"] is not None


def test_labels_that_cannot_be_ignored_are_not_read(blobs):
    images, masks = blobs(2)
    assert Items.of(images, masks).boxes_that_count() is None
    assert Items.of(images, masks).boxes_that_count(7)[0] == (slice(0, 64), slice(0, 64))


def test_only_the_region_is_predicted(blobs):
    images, masks = blobs(4, seed=4)
    model = last(nms.train(images, masks, **{**TINY, "epochs": 1})).model
    whole = model.predict(images)
    region = np.zeros(images.shape, bool)
    region[1, 20:33, 8:60] = True
    predicted = model.predict(images, region=region)
    np.testing.assert_allclose(predicted[region], whole[region], atol=1e-5)
    assert not predicted[~region].any()
    everywhere = np.broadcast_to(region[1], images.shape)
    assert model.predict(images, region=everywhere)[3, 25, 25] > 0
    with pytest.raises(ValueError, match="region has shape"):
        model.predict(images, region=region[0])


def test_a_time_series_keeps_one_network_for_all_frames(blobs):
    images, masks = blobs(8, seed=5)
    frames, truth = images.reshape(2, 4, 64, 64), masks.reshape(2, 4, 64, 64)
    flat = last(nms.train(images, masks, **{**TINY, "epochs": 1}))
    series = last(nms.train(frames, truth, **{**TINY, "epochs": 1}))
    np.testing.assert_array_equal(
        series.model.predict(frames), flat.model.predict(images).reshape(frames.shape)
    )
    params = {**TINY, "epochs": 1, "spatial_dims": 3, "patch_size": 16, "anisotropy": 3}
    volumes = last(nms.train(frames, truth, **params))
    assert volumes.record["images"] + volumes.record["held_back"] == 4  # two halves of each
    assert volumes.model.multiple == (2, 4, 4)
    together = volumes.model.predict(frames)
    np.testing.assert_allclose(together[1], volumes.model.predict(frames[1]), atol=1e-6)


def test_volumes_with_channels_and_coarse_planes(two_channels, tmp_path):
    images, masks = two_channels
    volume = np.moveaxis(images, 1, 0)  # (c, z, y, x)
    params = {**TINY, "spatial_dims": 3, "channel_axis": 0, "anisotropy": 4, "patch_size": 32}
    done = last(nms.train(volume, masks, **{**params, "epochs": 2}))
    probability = done.model.predict(volume)
    assert probability.shape == masks.shape
    done.model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", "cpu")
    assert loaded.architecture["anisotropy"] == 4
    np.testing.assert_allclose(loaded.predict(volume), probability, atol=1e-6)
    tiled = loaded.predict(volume, tile=(4, 32, 32), overlap=0.5)
    assert tiled.shape == probability.shape
    found = last(nms.segment(volume, **{**params, "epochs": 1, "start": "otsu"}))
    assert found.masks[0].shape == masks.shape


def test_files_from_before_channels_still_load(blobs, tmp_path):
    """They hold neither a channel axis nor an anisotropy."""
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    images, masks = blobs(2)
    params = {**TINY, "epochs": 1, "spatial_dims": 3, "patch_size": 16}
    model = last(nms.train(images, masks, **params)).model
    path = tmp_path / "model.safetensors"
    model.save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["napari_metastructure"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["channel_axis"], header["architecture"]["anisotropy"]
    save_file(weights, path, metadata={"napari_metastructure": json.dumps(header)})
    old = load_model(path, "cpu")
    assert old.channel_axis is None
    np.testing.assert_array_equal(old.predict(images), model.predict(images))


def test_instances_are_trained_as_a_mask(blobs):
    from skimage.measure import label

    images, masks = blobs(4, seed=6)
    instances = np.stack([label(mask) for mask in masks])
    assert instances.max() > 3
    params = {**TINY, "epochs": 1}
    done = last(nms.train(images, instances, as_mask=True, **params))
    assert done.model.classes == [0, 1]
    plain = last(nms.train(images, masks, **params))
    np.testing.assert_array_equal(done.model.predict(images), plain.model.predict(images))
    many = np.arange(64 * 64 * 4).reshape(4, 64, 64) // 512
    with pytest.warns(UserWarning, match="32 different values.*number objects"):
        last(nms.train(images, many, **{**params, "validation_fraction": 0}))


def test_a_mask_with_smooth_edges_is_told_from_instances(blobs):
    from scipy.ndimage import gaussian_filter

    images, masks = blobs(4, seed=6)
    smooth = np.stack([gaussian_filter(255.0 * mask, 0.7) for mask in masks])
    with pytest.warns(UserWarning, match=r"different values.*smooth edges, divide it at half"):
        last(nms.train(images, smooth.round().astype(np.uint8), **{**TINY, "epochs": 1}))

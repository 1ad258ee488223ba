from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest

from napari_metastructure.arrays.blocks import as_list, planes
from napari_metastructure.arrays.statistics import moments
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.patches import PatchSampler, Prefetched, class_indices


def numbered(*shape):
    """An image in which every pixel has a value of its own, so that patches tell where from."""
    return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)


def values(items, patch, entry=0):
    """The pixel values before normalisation."""
    mean, deviation = items.moments[entry]
    return np.rint(patch * deviation + mean).astype(int)


# ----------------------------------------------------------------- planes and moments


def test_planes_and_volumes_in_order():
    stack = numbered(2, 3, 4, 5)
    assert [p.shape for p in planes(stack)] == [(4, 5)] * 6
    assert [p.shape for p in planes(stack, 3)] == [(3, 4, 5)] * 2
    np.testing.assert_array_equal(planes(stack)[4], stack[1, 1])
    assert np.shares_memory(planes(stack)[4], stack)
    assert len(planes(stack[0, 0])) == 1
    with pytest.raises(ValueError, match="fewer than 3 axes; give volumes or stacks"):
        planes(stack[0, 0], 3)
    with pytest.raises(ValueError, match="holds no pixels"):
        planes(stack[:, :0])


def test_moments_of_any_type():
    image = np.array([[1, 3], [1, 3]])
    for dtype in (np.uint8, np.int32, np.float16, np.float64):
        assert moments(image.astype(dtype)) == (2, 1)
    assert moments(da.from_array(image, (1, 1))) == (2, 1)
    assert moments(np.full((9, 9), 60000, np.float16)) == (60000 // 32 * 32, 1)
    for bad in (np.nan, np.inf):
        assert moments(np.array([[0, bad]])) == (0, 1)
        with pytest.raises(ValueError, match="only NaN or infinity"):
            moments(np.array([[bad, bad]]))
        with pytest.raises(ValueError, match="holds NaN or infinity"):
            moments(np.array([[0, bad]]), robust=False)


def test_one_array_or_several():
    stack = numbered(3, 4, 5)
    assert len(as_list(stack)) == 1
    assert len(as_list([stack, stack[0]])) == 2
    assert len(as_list(tuple(stack))) == 3


# ----------------------------------------------------------------- items


def test_images_are_normalised_one_by_one():
    stack = np.stack([numbered(20, 30), 1000 + 7 * numbered(20, 30), np.full((20, 30), 5)])
    items = Items.of(stack)
    for index in (0, 1):
        assert items.image(index).mean() == pytest.approx(0, abs=1e-5)
        assert items.image(index).std() == pytest.approx(1, abs=1e-5)
        assert items.image(index).dtype == np.float32
    assert (items.image(2) == 0).all()
    part = (slice(3, 9), slice(4, 7))
    np.testing.assert_array_equal(items.image(1, part), items.image(1)[part])


def test_mixed_sizes_dask_and_volumes():
    images = [numbered(2, 3, 16, 20), da.from_array(numbered(3, 8, 8), (1, 4, 4))]
    items = Items.of(images, [np.zeros(i.shape, int) for i in images], spatial_dims=3)
    assert [i.shape for i in items.images] == [(3, 16, 20)] * 2 + [(3, 8, 8)]
    assert items.image(2).std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("count", "fraction", "held_back"), [(10, 0.2, 2), (4, 0.1, 1), (4, 0.9, 3)]
)
def test_the_last_entries_are_held_back(count, fraction, held_back):
    items = Items.of(list(numbered(count, 4, 4)), list(np.zeros((count, 4, 4), int)))
    training, validation = items.split(fraction)
    assert len(validation) == held_back
    assert training.images + validation.images == items.images
    assert training.moments + validation.moments == items.moments


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (4, 10, 30)])
def test_of_few_entries_the_end_is_held_back(shape):
    image = numbered(*shape)
    items = Items.of([image] * 2, [image] * 2, spatial_dims=len(shape))
    training, validation = items.split(0.2)
    axis = int(np.argmax(shape))
    for part, size in ((training, 24), (validation, 6)):
        assert len(part) == 2
        assert part.images[0].shape[axis] == part.labels[0].shape[axis] == size
        assert part.moments == items.moments  # the whole image is normalised as one
    joined = np.concatenate([training.images[1], validation.images[1]], axis)
    np.testing.assert_array_equal(joined, image)
    np.testing.assert_array_equal(training.images[0], training.labels[0])


def test_nothing_held_back():
    items = Items.of(numbered(5, 4, 4), numbered(5, 4, 4))
    training, validation = items.split(0)
    assert (len(training), len(validation)) == (5, 0)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        ([], [], ValueError, "Give at least one image"),
        ([numbered(4, 4)], [], ValueError, "1 images but 0 label arrays"),
        (numbered(4, 4), numbered(4, 5), ValueError, r"\(4, 4\) but its labels have \(4, 5\)"),
        (numbered(4, 4), np.full((4, 4), np.nan), TypeError, "array 0 must be integers.* nan is"),
        (np.array([["a"]]), None, TypeError, "should hold real numbers, not <U1"),
        (np.ones((4, 4), complex), None, TypeError, "is complex; give its magnitude"),
        (np.full((4, 4), np.nan), None, ValueError, "NaN or infinity"),
        (numbered(4), None, ValueError, "fewer than 2 axes"),
        (numbered(0, 4), None, ValueError, "holds no pixels"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(images, labels, error, message):
    with pytest.raises(error, match=message) as caught:
        Items.of(images, labels)
    assert str(caught.value).count(".") == 1


def test_class_indices():
    labels = np.array([0, 2, 7, -1, 9])
    np.testing.assert_array_equal(class_indices(labels, [0, 2, 7], 9), [0, 1, 2, IGNORE, IGNORE])
    np.testing.assert_array_equal(class_indices(np.array([0, 255], np.uint8), [0, 1]), [0, 1])
    np.testing.assert_array_equal(class_indices(np.array([False, True]), [0, 1]), [0, 1])


# ----------------------------------------------------------------- patches


def sampler(image, label, classes=None, spatial_dims=2, **params):
    items = Items.of(image, label, spatial_dims)
    classes = np.unique(label).tolist() if classes is None else classes
    return PatchSampler(items, classes, **{"patch_size": 16, "batch_size": 6, "seed": 0, **params})


@pytest.mark.parametrize("shape", [(40, 50), (20, 40, 30)])
def test_content_and_target_are_turned_together(shape):
    image = numbered(*shape)
    source = sampler(image, image, range(image.size), len(shape), foreground=0)
    shown = set()
    for _ in range(20):
        images, targets = source.batch()
        assert (images.shape, images.dtype) == ((6, 1, *[16] * len(shape)), np.float32)
        assert (targets.shape, targets.dtype) == ((6, *[16] * len(shape)), np.int64)
        np.testing.assert_array_equal(values(source.items, images[:, 0]), targets)
        for target in targets:
            corner = target.min()
            start = np.unravel_index(corner, shape)
            piece = image[tuple(slice(s, s + 16) for s in start)]
            np.testing.assert_array_equal(np.sort(target, axis=None), np.sort(piece, axis=None))
            steps = [int(np.diff(target, axis=axis).flat[0]) for axis in range(target.ndim)]
            shown.add(tuple(steps))
    # the eight turns and flips of the plane, and in volumes each with z upright and flipped
    assert len(shown) == 8 * 2 ** (len(shape) - 2)


def test_patches_come_from_everywhere():
    image = numbered(24, 24)
    source = sampler(image, image, range(image.size), foreground=0, batch_size=200)
    assert np.unique(source.batch()[1]).size == image.size


def test_flat_patches_are_flipped_but_not_turned():
    image = numbered(8, 64)
    targets = sampler(image, image, range(image.size), foreground=0).batch()[1]
    assert targets.shape[1:] == (8, 16)
    assert (np.abs(np.diff(targets, axis=2)) == 1).all()


def test_small_images_are_filled_up_but_not_learnt_from():
    image = numbered(11, 13) + 1
    source = sampler(image, image, [0, *range(1, 144)], multiple=8)
    images, targets = source.batch()
    assert targets.shape[1:] == (16, 16)
    for content, target in zip(values(source.items, images[:, 0]), targets):
        counted = target != IGNORE
        np.testing.assert_array_equal(content[counted], target[counted])
        np.testing.assert_array_equal(np.sort(target[counted]), image.ravel())
        assert np.isin(content, image).all()  # reflected


def test_images_of_different_size_share_a_batch():
    images = [numbered(40, 40), numbered(5, 9)]
    items = Items.of(images, images)
    source = PatchSampler(items, range(1600), patch_size=32, batch_size=300, foreground=0, seed=0)
    targets = source.batch()[1]
    assert targets.shape == (300, 32, 32)
    small = [(target == IGNORE).any() for target in targets]
    assert 1 <= sum(small) <= 30  # 45 of 1645 pixels


def test_labels_become_indices_and_holes():
    label = np.array([0, 3, 7, 255, -1])[np.random.default_rng(0).integers(0, 5, (32, 32))]
    source = sampler(numbered(32, 32), label, [0, 3, 7], ignore_label=255)
    images, targets = source.batch()
    indices = class_indices(label, [0, 3, 7], 255).ravel()
    np.testing.assert_array_equal(indices[values(source.items, images[:, 0])], targets)
    assert set(np.unique(targets)) == {-1, 0, 1, 2}


@pytest.mark.parametrize("foreground", [0, 0.5, 1])
def test_share_of_patches_on_the_foreground(foreground):
    label = np.zeros((160, 160), np.uint8)
    label[70:90, 70:90] = 1
    label[:40] = 255  # to be ignored, and no foreground
    source = sampler(
        numbered(160, 160),
        label,
        [0, 1],
        batch_size=400,
        foreground=foreground,
        ignore_label=255,
    )
    share = (source.batch()[1] > 0).any((1, 2)).mean()
    by_chance = (35 / 145) ** 2
    expected = by_chance + foreground * (1 - by_chance) * (1 - (1 - by_chance) ** 9)
    assert share == pytest.approx(expected, abs=0.08)


def test_patches_avoid_what_is_left_out():
    label = np.full((64, 64), -1)
    label[20:44, 20:44] = 0
    source = sampler(numbered(64, 64), label, [0, 1], batch_size=100, foreground=0)
    targets = source.batch()[1]
    assert (targets != IGNORE).any((1, 2)).mean() > 0.95


def test_same_seed_same_patches():
    image, label = numbered(64, 64), numbered(64, 64) % 2
    first, same, other = (sampler(image, label, seed=seed) for seed in (3, 3, 4))
    for _ in range(3):
        a, b, c = first.batch(), same.batch(), other.batch()
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
        assert not np.array_equal(a[0], c[0])


def test_an_epoch_sees_every_pixel_once_on_average():
    image = numbered(10, 64, 64)
    assert sampler(image, image % 2, batch_size=8).batches_per_epoch == 20
    assert sampler(image[0, :8, :8], image[0, :8, :8] % 2, batch_size=8).batches_per_epoch == 1


def test_dask_gives_the_same_patches():
    image, label = numbered(3, 64, 64), numbered(3, 64, 64) % 3
    lazy = sampler(da.from_array(image, (1, 30, 30)), da.from_array(label, (2, 20, 64)), [0, 1, 2])
    for a, b in zip(sampler(image, label).batch(), lazy.batch()):
        np.testing.assert_array_equal(a, b)


# ----------------------------------------------------------------- larger than memory


def test_patches_of_zarr_are_those_of_memory_and_moments_come_late():
    zarr = pytest.importorskip("zarr")
    image, label = numbered(6, 64, 64), numbered(6, 64, 64) % 3
    stored = [
        zarr.create_array(zarr.storage.MemoryStore(), data=data, chunks=(2, 20, 30))
        for data in (image, label)
    ]
    read, usual = [], type(stored[0]).__getitem__

    def noted(array, where):
        part = usual(array, where)
        read.extend([array is stored[0]] * bool(part.size))
        return part

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(stored[0]), "__getitem__", noted)
        lazy = sampler(*stored, [0, 1, 2], batch_size=1)
        assert not read
        first = lazy.batch()
        assert 0 < sum(read) <= 12  # chunks of one pair of planes, and each once
    memory = sampler(image, label, batch_size=1)
    for batch, expected in [(first, memory.batch()), (lazy.batch(), memory.batch())]:
        np.testing.assert_allclose(batch[0], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(batch[1], expected[1])


@pytest.mark.parametrize("lazy", [False, True])
def test_missing_pixels_do_not_count(lazy):
    image = numbered(1, 32, 32).astype(np.float32)
    image[0, 5, 5:7] = np.nan, np.inf
    labels = np.ones(image.shape, int)
    if lazy:
        image, labels = da.from_array(image, (1, 16, 16)), da.from_array(labels, (1, 16, 16))
    items = Items.of(image, labels)
    assert items.missing(0).sum() == 2
    assert items.missing(0, (slice(8, 16), slice(8, 16))).sum() == 0
    assert (items.image(0)[5, 5:7] == 0).all()
    drawn = PatchSampler(items, [0, 1], patch_size=32, batch_size=4, seed=0)
    images, targets = drawn.batch()
    assert np.isfinite(images).all()
    assert (targets == IGNORE).sum(axis=(1, 2)).tolist() == [2] * 4


def test_thinned_items_are_evenly_spread_parts():
    image = numbered(40, 8, 8)
    lazy = Items.of(da.from_array(image, (1, 8, 8)), da.from_array(image, (1, 8, 8)))
    thin = lazy.thinned(10 * 64)
    assert len(thin) == 10
    np.testing.assert_array_equal(thin.images[-1], image[-1])
    assert Items.of(image, image).thinned(64) is not None
    assert len(Items.of(image, image).thinned(64)) == 40  # in memory all are kept
    large = Items.of(
        da.zeros((5000, 5000), chunks=1000), da.zeros((5000, 5000), dtype=int, chunks=1000)
    )
    parts = large.thinned(2**23)
    assert 2 <= len(parts) <= 3
    assert max(part.shape for part in parts.images) <= (2048, 2048)


def test_values_that_are_no_class_are_left_out():
    found = class_indices(np.array([0, 2, 5, 7, 9]), [0, 2, 7])
    np.testing.assert_array_equal(found, [0, 1, IGNORE, 2, IGNORE])


def test_half_of_the_patches_lie_around_a_class_chosen_evenly():
    labels = np.zeros((2, 128, 128), np.uint8)
    labels[0, :64] = 1
    labels[1, 100:103, 100:103] = 2  # of 2 x 128 x 128 pixels
    drawn = PatchSampler(Items.of(labels, labels), [0, 1, 2], patch_size=16, batch_size=400, seed=0)
    _, targets = drawn.batch()
    share = np.mean([(target == 2).any() for target in targets])
    assert share == pytest.approx(0.25, abs=0.06)  # by chance one in a hundred


# --------------------------------------------------------------------- cut ahead


def test_batches_cut_ahead_are_the_same_and_what_was_drawn_for_them_is_given_back():
    items = Items.of(numbered(4, 64, 64), np.zeros((4, 64, 64), np.uint8))
    plain, ahead = (PatchSampler(items, [0, 1], patch_size=16, seed=3) for _ in range(2))
    with Prefetched(ahead) as batches:
        for _ in range(3):
            np.testing.assert_array_equal(batches.batch()[0], plain.batch()[0])
            assert batches.state == plain.rng.bit_generator.state
    assert ahead.rng.bit_generator.state == plain.rng.bit_generator.state


def test_patches_are_cut_with_one_thread_of_torch_and_all_else_keeps_its_own():
    import torch

    class Sampler:
        rng = np.random.default_rng(0)

        def batch(self):
            return torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with Prefetched(Sampler()) as batches, ThreadPoolExecutor(1) as pool:
            assert batches.batch() == 1
            assert torch.get_num_threads() == 2
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)

import numpy as np
import pytest
import torch

import napari_metastructure as nms
from napari_metastructure.learning.augmentation import FEW_PIXELS, Augmentation, strength_for
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.patches import PatchSampler


def blobs(shape, seed=0):
    """Smooth random objects: an image of -1 and 1, and its target."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    target = (noise > 0).astype(np.int64)
    return (2.0 * target - 1)[None].astype(np.float32), target


@pytest.mark.parametrize("shape", [(96, 96), (24, 64, 64), (48, 80)])
def test_image_and_target_move_together(shape):
    image, target = blobs(shape)
    augmentation, differing = Augmentation(0.6, len(shape)), []
    for seed in range(8):
        changed, moved = augmentation(image, target, seed)
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert moved.shape == target.shape
        assert moved.dtype == np.int64
        assert set(np.unique(moved)) <= {IGNORE, 0, 1}
        differing.append((moved != target).mean())
        inside, outside = changed[0][moved == 1], changed[0][moved == 0]
        assert inside.mean() - outside.mean() > 0.8 * inside.std()  # apart, in spite of the noise
    assert 0.1 < np.mean(np.array(differing) > 0.1) < 1


def test_what_lay_outside_is_not_annotated():
    image, target = np.zeros((1, 64, 64), np.float32), np.ones((64, 64), np.int64)
    moved = [Augmentation(1.0)(image, target, seed)[1] for seed in range(10)]
    assert set(np.unique(moved)) == {IGNORE, 1}
    assert 0.05 < np.mean(np.array(moved) == IGNORE) < 0.6


def test_pixels_without_annotation_stay_without():
    image, target = blobs((64, 64))
    target[:, :40] = IGNORE
    _, moved = Augmentation(1.0)(image, target, 3)
    assert (moved == IGNORE).mean() > 0.4
    assert (moved[moved != IGNORE] >= 0).all()


def test_volumes_turn_about_their_first_axis_only():
    columns = np.broadcast_to(blobs((64, 64))[1], (16, 64, 64))
    image = columns[None].astype(np.float32)
    augmentation = Augmentation(1.0, 3)
    augmentation._bend = lambda shape, rng: 0
    _, moved = augmentation(image, np.ascontiguousarray(columns), 1)
    whole = (moved != IGNORE).all(axis=0)
    assert whole.sum() > 1000
    assert (moved[:, whole] == moved[0, whole]).mean() > 0.99


def test_same_seed_same_patch_and_no_global_random_state():
    image, target = blobs((64, 64))
    image = np.concatenate([image, -image])
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    one, two, other = (Augmentation(0.7)(image, target, seed) for seed in (4, 4, 5))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    assert np.abs(one[0] - other[0]).mean() > 0.1
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_patches_are_augmented_by_the_seed_of_the_sampler():
    image, target = blobs((96, 96))
    items = Items.of(image[0], target)

    def batch(augmentation):
        sampler = PatchSampler(items, [0, 1], patch_size=64, augmentation=augmentation, seed=2)
        return sampler.batch()

    plain, changed, again = batch(None), batch(Augmentation(0.5)), batch(Augmentation(0.5))
    assert not (plain[1] == IGNORE).any()
    assert (changed[1] == IGNORE).any()
    np.testing.assert_array_equal(changed[0], again[0])
    np.testing.assert_array_equal(changed[1], again[1])


def test_augmentation_is_on_where_labels_are_few():
    assert strength_for(FEW_PIXELS - 1, None) > 0
    assert strength_for(FEW_PIXELS, None) == 0
    assert strength_for(100, 0) == 0
    assert strength_for(10**9, 0.3) == 0.3


@pytest.mark.parametrize(("asked", "used"), [(None, 0.5), (0, 0), (1, 1)])
def test_training_says_how_much_it_augmented(asked, used):
    image, target = blobs((64, 64))
    settings = {"channels": 2, "depth": 3, "patch_size": 32, "epochs": 1, "min_steps": 2}
    done = nms.train(image[0], target, augmentation=asked, seed=0, **settings).run(hidden=True)
    assert done.record["augmentation"] == used

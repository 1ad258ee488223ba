import numpy as np
import pytest
from scipy import ndimage as ndi

import napari_metastructure as nms
from napari_metastructure.few_labels.field_of_view import field_of_view, filled
from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.few_labels.ranking import Judge
from napari_metastructure.labels.strokes import simulate_strokes
from tests.few_labels.conftest import discs

pytestmark = pytest.mark.usefixtures("one_thread")


def wells(planes=4, side=128, seed=0):
    """Dark bars in a lit round well with a black frame; where the bars and where the well are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    well = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (0.45 * side) ** 2
    truth = np.zeros((planes, side, side), bool)
    for plane in truth:
        for cy, cx in rng.uniform(0.25 * side, 0.75 * side, (5, 2)):
            plane |= (abs(y - cy) < 3) & (abs(x - cx) < 12)
    light = well * (600 - 250 * abs(x / side - 0.5))
    return (
        (60 + light * (1 - 0.4 * truth) + rng.normal(0, 8, truth.shape)).astype("u2"),
        truth,
        well,
    )


def dice(masks, truth):
    masks = np.asarray(masks) > 0
    return 2 * np.count_nonzero(masks & truth) / (masks.sum() + truth.sum())


def test_a_field_in_common_is_found():
    stack, _, well = wells()
    dark = field_of_view(stack)
    assert dark.shape == well.shape
    assert np.mean((dark < 0.5) == well) > 0.97


def test_a_field_that_is_shifted_is_filled_around_its_own_rim():
    stack, _, well = wells(side=200)
    stack[1], shifted = np.roll(stack[1], 6, axis=1), np.roll(well, 6, axis=1)
    kept = filled(stack[1], field_of_view(stack)) == stack[1]
    assert shifted[kept].mean() > 0.99
    assert kept.sum() > 0.85 * shifted.sum()


def test_large_planes_give_a_coarse_field_that_fits_them():
    stack, _, well = wells(side=600)
    field = field_of_view(stack)
    assert field.shape == (200, 200)
    kept = filled(stack[0], field) == stack[0]
    assert well[kept].mean() > 0.99
    assert kept.sum() > 0.8 * well.sum()


@pytest.mark.parametrize(
    "planes",
    [
        wells(planes=2)[0],  # two may agree by chance
        [discs(seed=seed)[0] for seed in range(4)],  # the same objects on a dark ground
        [wells()[0][0], wells(side=96)[0][0], wells()[0][1]],
        np.stack([wells()[0]] * 3),  # volumes
        np.full((4, 32, 32), 7),
        np.random.default_rng(0).normal(size=(5, 64, 64)),
    ],
    ids=["two", "objects", "shapes", "volumes", "constant", "noise"],
)
def test_no_field_where_there_is_none(planes):
    assert field_of_view(planes) is None


def test_one_bright_object_that_moves_is_no_field():
    y, x = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)
    planes = [(y - cy) ** 2 + (x - cx) ** 2 < 38**2 for cy, cx in rng.uniform(30, 66, (6, 2))]
    assert field_of_view(100.0 * np.stack(planes)) is None


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_filled_keeps_the_inside_and_the_type_and_leaves_no_rim(dtype):
    stack, _, well = wells()
    plane = (stack[0] // 4).astype(dtype)
    found, inside = filled(plane, field_of_view(stack)), ndi.binary_erosion(well, iterations=6)
    assert found.dtype == plane.dtype
    np.testing.assert_array_equal(found[inside], plane[inside])
    assert found[~well].min() > 0.5 * np.median(plane[inside])


def test_start_masks_and_the_result_are_of_objects_not_of_the_field():
    stack, truth, well = wells()
    judge = Judge(list(stack))
    list(judge.work())
    best = judge.ranking()[0]
    of_the_field = [filter_mask(plane, best.name, best.polarity) for plane in stack]
    assert dice(of_the_field, truth) < 0.5  # what would come out otherwise
    *_, done = nms.segment(
        stack, seed=0, channels=4, depth=3, epochs=1, patch_size=64, min_steps=60, device="cpu"
    )
    assert dice(done.masks[0], truth) > 0.8
    assert done.record["surroundings"] == pytest.approx(1 - well.mean(), abs=0.03)
    assert any("dark surroundings" in note for note in done.record["notes"])


def test_strokes_in_a_well():
    stack, truth, _ = wells()
    strokes = np.stack([simulate_strokes(plane.astype(int), seed=0) for plane in truth])
    *_, done = nms.segment(
        stack,
        strokes=strokes,
        seed=0,
        channels=4,
        depth=3,
        patch_size=64,
        min_steps=60,
        device="cpu",
    )
    assert "surroundings" in done.record
    assert dice(done.masks[0], truth) > 0.8

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_metastructure.jobs.generators import run_out
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.threshold import (
    _of_objects,
    _predicted,
    outline_steepness,
    outline_threshold,
)


def _discs(bright=True, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.zeros((96, 96), bool)
    y, x = np.mgrid[:96, :96]
    for cy, cx in ((20, 25), (60, 30), (45, 70)):
        truth |= (y - cy) ** 2 + (x - cx) ** 2 < 100
    image = 10 * truth + rng.normal(size=truth.shape)
    return (image if bright else -image), truth


def _merit(threshold, probabilities, images):
    """Expected Dice times the mean gradient on both sides of the outline, mask by mask."""
    p, masks = np.concatenate(probabilities), [p > threshold for p in probabilities]
    chosen = p[p > threshold]
    sides, gradients = [], []
    for mask, image in zip(masks, images):
        gradients.append(ndi.gaussian_gradient_magnitude(np.sqrt(image), 1))
        sides.append(ndi.binary_dilation(mask) & ~ndi.binary_erosion(mask, border_value=1))
    along = np.concatenate(gradients)[np.concatenate(sides)].mean()
    return 2 * chosen.sum() / (chosen.size + p.sum()) * along


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_outline_threshold_equals_the_search_over_all_masks():
    rng = np.random.default_rng(0)
    images = [rng.random((20, 40)), rng.random((30, 40))]
    for image in images:
        image.flat[:2] = 0, 1  # the range is that of the square root
    probabilities = [ndi.gaussian_filter(rng.beta(0.4, 1.2, i.shape), 1) for i in images]
    threshold = outline_threshold(probabilities, images)
    merits = [_merit(t, probabilities, images) for t in np.linspace(0.1, 0.9, 81)]
    assert _merit(threshold, probabilities, images) == pytest.approx(np.nanmax(merits), rel=1e-2)


@pytest.mark.parametrize("wide", [0.25, 0.75])
@pytest.mark.parametrize("bright", [True, False])
def test_outlines_lie_on_the_edges(bright, wide):
    image, truth = _discs(bright)
    distance = ndi.distance_transform_edt(truth) - ndi.distance_transform_edt(~truth)
    slope = 1 / (1 + np.exp(-distance / 2))
    p = slope ** (np.log(wide) / np.log(0.5))  # its value on the edges is `wide`
    threshold = outline_threshold([p], [image], "bright" if bright else "dark")
    assert threshold == pytest.approx(wide, abs=0.15)


def test_outline_threshold_without_outlines():
    assert outline_threshold([np.zeros((8, 8))], [np.eye(8)]) == 0.5
    assert outline_threshold([np.zeros((8, 8))], [np.ones((8, 8))]) == 0.5


def test_outline_threshold_with_fewer_objects_is_higher():
    image, mask = _discs()
    p = np.clip(
        0.5 + 0.3 * (mask - 0.5) + 0.1 * np.random.default_rng(1).normal(size=mask.shape), 0, 1
    )
    even, few = (outline_threshold([p], [image], prior=prior, edges=0) for prior in (0.5, 0.1))
    assert few > even


def test_outline_threshold_heeds_the_share_of_objects():
    """Of a slope without edges, the threshold cuts off what the share says, if not all the way."""
    p = np.tile(np.linspace(0, 1, 101), (40, 1))
    image = np.tile(np.linspace(0, 1, 101), (40, 1))
    rule = {"prior": 0.5, "edges": 0}
    free = outline_threshold([p], [image], **rule)
    for share in (0.1, 0.3, 0.9):
        told = outline_threshold([p], [image], share=share, **rule)
        assert abs((p > told).mean() - share) < abs((p > free).mean() - share)


def test_outline_threshold_without_gradients_in_some_masks():
    p = np.zeros((16, 16))
    p[4:12, 4:12] = 0.7
    image = np.pad(np.ones((4, 4)), 6)
    assert 0.1 <= outline_threshold([p], [image], edges=0.25) <= 0.9


def test_labels_of_missing_pixels_do_not_count():
    class Model:
        classes = (0, 1)

        def predicting_one(self, image):
            yield 1, 1
            return np.zeros(image.shape[-2:])

    image = np.arange(64.0).reshape(8, 8)
    image[2, 3] = np.nan
    items = Items.of([image, image + 1], [np.ones((8, 8), int)] * 2)
    _, labels, _ = run_out(_predicted(Model(), items, None))
    for label in labels:
        assert label[2, 3] == IGNORE
        assert (label == 1).sum() == 63


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_outlines_on_edges_are_steep_and_others_are_not(polarity):
    rng = np.random.default_rng(0)
    objects = np.zeros((64, 64), bool)
    objects[20:40, 10:50] = True
    sign = 1 if polarity == "bright" else -1
    image = ndi.gaussian_filter(100.0 + sign * 50 * objects, 1) + rng.normal(0, 3, objects.shape)
    assert outline_steepness(objects, image, polarity) > 2
    noise = rng.normal(100, 3, objects.shape)
    assert outline_steepness(objects, noise, polarity) == pytest.approx(1, abs=0.2)
    assert outline_steepness(noise > 105, noise, polarity) < 1.5  # spots of the noise itself
    assert outline_steepness(np.zeros_like(objects), image, polarity) == 0
    assert outline_steepness(objects, np.ones((64, 64)), polarity) == 0


def test_labels_without_objects_tell_nothing_of_several_classes():
    """As in parts of a stopped training, or where pixels at a rim do not count."""
    for label in (np.zeros((8, 8), int), np.full((8, 8), -1)):
        assert _of_objects(np.eye(3), [label]) is None
    label = np.zeros((8, 8), int)
    label[0, 0] = 1
    often_wrong = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    assert _of_objects(often_wrong, [label]) is None

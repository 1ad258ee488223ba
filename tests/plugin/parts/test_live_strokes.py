"""The classifier's work for the window, without a window."""

import numpy as np
import pytest

from napari_metastructure.few_labels.stroke_threshold import threshold_of_classifier
from napari_metastructure.labels.strokes import simulate_strokes, uncertainty
from napari_metastructure.plugin.parts.live_strokes import LiveClassifier, Piece, View


@pytest.mark.parametrize("painted", [1, 3])
def test_the_view_is_cut_where_the_result_would_be(blobs, painted):
    images, masks = blobs(4, seed=0, size=64)
    strokes = np.zeros_like(masks)
    for k in range(painted):
        strokes[k] = simulate_strokes(masks[k], 4, seed=k)
    live = LiveClassifier([images], 2, False)
    view = View((0,), (slice(0, 64), slice(0, 64)))
    pieces = [one for one in live.update([strokes], view) if isinstance(one, Piece)]
    objects = live.classifier.predict(images[0])[-1]
    threshold, share = threshold_of_classifier(live.classifier, [objects], [images[0]])
    assert (share is None) == (painted == 1)
    np.testing.assert_array_equal(pieces[-1].labels, objects > threshold)


def test_several_classes_are_weighed_by_what_is_in_view(blobs):
    images, masks = blobs(4, seed=0, size=64)
    truth = np.where((masks == 1) & (np.arange(64) > 20), 2, masks)
    strokes = np.zeros_like(masks)
    strokes[0] = simulate_strokes(truth[0], 6, 8, seed=0)
    live = LiveClassifier([images], 2, False)
    view = View((0,), (slice(0, 64), slice(0, 64)))
    pieces = [one for one in live.update([strokes], view) if isinstance(one, Piece)]
    even, weighed = pieces[0].labels, pieces[-1].labels
    assert len(pieces) == 2
    assert (even == 0).sum() < (weighed == 0).sum()
    np.testing.assert_array_equal(weighed, live.classifier.predict(images[0]).argmax(0))
    again = [one for one in live.update([strokes], view) if isinstance(one, Piece)]
    assert len(again) == 1  # at once with the weights of before
    np.testing.assert_array_equal(again[0].labels, weighed)


@pytest.fixture
def ball():
    """A noisy ball in a volume (12, 40, 40), and strokes on its plane 6."""
    z, y, x = np.mgrid[:12, :40, :40]
    mask = ((z - 6) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 49).astype(np.uint8)
    image = (mask + np.random.default_rng(0).normal(0, 0.2, mask.shape)).astype(np.float32)
    strokes = np.zeros_like(mask)
    strokes[6] = simulate_strokes(mask[6], 3, seed=0)
    return image, strokes


def test_of_a_volume_only_the_plane_in_view_is_decided(ball):
    image, strokes = ball
    live = LiveClassifier([image], 3, False)
    view = View((), (slice(4, 5), slice(0, 40), slice(0, 40)))
    pieces = [one for one in live.update([strokes], view) if isinstance(one, Piece)]
    assert all(piece.box[0] == slice(4, 5) for piece in pieces)
    whole = live.classifier.predict(image)
    np.testing.assert_array_equal(pieces[-1].uncertainty[0], uncertainty(whole)[4])
    pieces = live.update([strokes], View((), (slice(0, 12), slice(0, 40), slice(0, 40))))
    assert [piece.box[0] for piece in pieces if isinstance(piece, Piece)][-1] == slice(0, 12)


def test_the_next_place_in_a_volume_is_on_one_of_its_planes(ball):
    image, strokes = ball
    live = LiveClassifier([image], 3, False)
    *_, place = live.next_place([strokes], View((), (slice(4, 5), slice(0, 40), slice(0, 40))))
    assert place.index == ()
    assert len(place.pixel) == 3
    assert strokes[place.pixel] == 0


def test_the_next_place_is_not_at_the_edge_for_no_reason(blobs, monkeypatch):
    images, masks = blobs(2, seed=0, size=64)
    strokes = np.zeros_like(masks)
    strokes[0] = simulate_strokes(masks[0], 3, seed=0)
    live = LiveClassifier([images], 2, False)
    monkeypatch.setattr(live, "_doubt", lambda *_: np.ones((64, 64), np.float32))
    *_, place = live.next_place([strokes], View((1,), (slice(0, 64), slice(0, 64))))
    assert all(8 < side < 55 for side in place.pixel)

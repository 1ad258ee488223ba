"""The classifier's work for the window, without a window."""

import numpy as np
import pytest

from napari_metastructure.few_labels.stroke_threshold import threshold_of_classifier
from napari_metastructure.labels.strokes import simulate_strokes
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

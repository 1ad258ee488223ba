"""What the segmentation dock says of a run at its end."""

import numpy as np
import pytest

from napari_metastructure.jobs.events import Done, Step
from napari_metastructure.plugin.docks.segment_results import is_nothing, summary

COMPARED = {"network": 0.981, "classifier": 0.962}


@pytest.mark.parametrize(
    ("record", "stopped", "text"),
    [
        (
            {"result": "network", "held_out": COMPARED},
            False,
            "Trained for 45 of 90 steps; result of the network; area under the ROC curve on "
            "held-out strokes: network 0.98, classifier 0.96.",
        ),
        (
            {"result": "network", "held_out": "none: stopped before they were compared"},
            True,
            "Stopped at step 45 of 90; result of the network; stopped before they were compared.",
        ),
        (
            {"result": "classifier", "note": "the result is that of the classifier, as ..."},
            True,
            "Stopped at step 45 of 90; the result is that of the classifier, as ....",
        ),
    ],
)
def test_the_last_line_says_what_came_out_and_why(record, stopped, text):
    assert summary(Done(None, record=record, stopped=stopped), Step(45, 90, 2, 0.3)) == text


@pytest.mark.parametrize(
    ("record", "found", "nothing"),
    [
        ({"steps": 0}, 0, True),
        ({"steps": 0, "result": "none"}, 0, True),
        ({"steps": 0}, 1, False),
        ({"steps": 3}, 0, False),
        ({"steps": 0, "result": "classifier"}, 0, False),
    ],
)
def test_a_stopped_run_that_learnt_or_found_something_is_a_result(record, found, nothing):
    planes = [np.full((4, 4), found, np.uint8)]
    done = Done(None, record=record, stopped=True, masks=planes, probabilities=planes)
    assert is_nothing(done) == nothing

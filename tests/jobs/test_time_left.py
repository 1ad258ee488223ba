import pytest

from napari_metastructure.jobs.time_left import TimeLeft


def last_look(seconds, total=1000, left=None):
    """The estimate after steps that take these seconds, and the time and number of the last."""
    left, now = left or TimeLeft(), 0.0
    for done, taken in enumerate(seconds, start=1):
        now += taken
        found = left.look("training", done, total, now)
    return found, now, len(seconds)


def test_nothing_is_said_before_it_means_something():
    assert last_look([0.1] * 10)[0] is None  # a second
    assert last_look([1.0] * 5)[0] is None  # four steps
    assert last_look([1.0] * 6)[0] == pytest.approx(994)


def test_a_slow_beginning_is_forgotten():
    found, *_ = last_look([0, 60, *[0.5] * 100])
    assert found == pytest.approx(0.5 * 898, rel=0.15)


@pytest.mark.parametrize("between", ["validating", None])
def test_what_happens_between_steps_does_not_count(between):
    left = TimeLeft()
    _, now, done = last_look([0.5] * 20, left=left)
    if between:
        left.look(between, 1, 2, now + 1)
        left.look(between, 2, 2, now + 100)
    else:
        left.interrupt()
    left.look("training", done + 1, 1000, now + 100)
    assert left.look("training", done + 2, 1000, now + 100.5) == pytest.approx(0.5 * 978, rel=0.01)


def test_the_next_round_begins_anew():
    left = TimeLeft()
    last_look([0.5] * 20, left=left)
    assert left.look("training", 1, 100, 20) == pytest.approx(0.5 * 99)

import pytest

from napari_metastructure.learning.duration import AutomaticDuration, OpenEndedRate


def run(scores, **options):
    """Steps and learning rates of a training with these scores, one per 100 steps."""
    rate = OpenEndedRate()
    duration, step, rates = AutomaticDuration(rate, 100, **options), 0, []
    while step < duration.total:
        rates.append(rate(step))
        step += 1
        duration.update(step)
        if step % 100 == 0:
            duration.update(step, scores(step))
    return duration, step, rates


def test_ends_some_time_after_the_score_stopped_rising():
    duration, steps, rates = run(lambda step: min(step, 700) / 1000)
    assert duration.reason == "the validation score has stopped rising"
    assert steps == round(1.3 * (700 + 400))
    assert rates[0] < 0.05
    assert set(rates[50:1101]) == {1}
    assert rates[-1] == pytest.approx(0, abs=0.01)
    assert rates[1100:] == sorted(rates[1100:], reverse=True)


@pytest.mark.parametrize(("floor", "last"), [(0.63, 900), (0.9, 100)])
def test_a_small_rise_counts_where_noise_leaves_little_of_the_score(floor, last):
    steps = run(lambda step: floor + min(step, 900) / 5e5)[1]
    assert steps == round(1.3 * max(500, last + 400))


def test_lasts_at_least_so_many_steps():
    assert run(lambda step: 0.8)[1] == round(1.3 * 500)


@pytest.mark.parametrize(("score", "times"), [(0.63, 1), (0.5625, 2**0.5), (0.52, 2), (0.5, 2)])
def test_noisy_labels_take_up_to_twice_as_many_steps(score, times):
    steps = run(lambda step: score, classes=5)[1]
    assert steps == pytest.approx(1.3 * 1000 * times, abs=2)


@pytest.mark.parametrize(("classes", "least"), [(3, 600), (5, 1000), (300, 2000)])
def test_more_classes_take_more_steps(classes, least):
    assert run(lambda step: 0.8, classes=classes)[1] == round(1.3 * least)


def test_ends_with_the_time_limit():
    duration, steps, _ = run(lambda step: step / 1e6, time_limit=1e-9)
    assert duration.reason == "time limit of 1e-09 s"
    assert steps == 2


def test_the_time_limit_is_of_the_clock_that_is_given():
    still = run(lambda step: 0.5, time_limit=1e-9, clock=lambda: 0.0)[0]
    assert "stopped rising" in still.reason


def test_a_score_that_never_stops_rising():
    assert run(lambda step: step)[0].reason == "20000 steps done"

import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.stats import skew

from napari_metastructure.few_labels.filters import BANK, filter_mask, otsu_classes
from napari_metastructure.few_labels.ranking import Judge, evenly_spread
from tests.few_labels.conftest import discs, halos, relief


def judged(parts, **how):
    judge = Judge(parts, **how)
    list(judge.work())
    return judge


def dice(mask, truth):
    return 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum())


@pytest.fixture(scope="module")
def judge():
    return judged([discs()[0], discs(seed=1)[0]], keep=True)


def test_best_start_finds_the_discs_and_scores_fall(judge):
    ranking = judge.ranking()
    truth = discs()[1]
    assert dice(judge.mask(ranking[0]), truth) > 0.85
    scores = [start.score for start in ranking]
    assert scores == sorted(scores, reverse=True)


def test_classes_of_the_intensities_are_looked_at_once(monkeypatch):
    judge, seen = judged([discs()[0], discs(seed=1)[0]]), []

    def counted(image):
        seen.append(image)
        return otsu_classes(image)

    monkeypatch.setattr("napari_metastructure.few_labels.ranking.otsu_classes", counted)
    judge.ranking()
    judge.ranking()
    views = 2 * len(judge.polarities)  # flattened, for the density
    assert len(seen) <= 2 + views


def test_masks_of_the_judge_are_those_of_the_bank(judge):
    start = judge.ranking()[3]
    expected = filter_mask(discs(seed=1)[0], start.name, start.polarity)
    np.testing.assert_array_equal(judge.mask(start, 1), expected)


@pytest.mark.parametrize("bright", [True, False])
def test_polarity_is_chosen_with_the_mask(bright):
    ranking = judged([discs(bright)[0]]).ranking()
    assert ranking[0].polarity == ("bright" if bright else "dark")


def test_uneven_light_does_not_turn_the_polarity():
    y, x = np.mgrid[:160, :160]
    dark = (x + 8 * np.sin(y / 15)).astype(int) % 40 < 4
    light = 160 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 60**2)  # its bright tail is the longer
    image = 40 + light - 12 * ndi.gaussian_filter(dark.astype(float), 0.7)
    image += np.random.default_rng(0).normal(0, 2, image.shape)
    assert skew(image.ravel()) > 0.3
    judge = judged([image], keep=True)
    best = judge.ranking()[0]
    assert best.polarity == "dark"
    assert dice(judge.mask(best), dark) > 0.6


def test_small_spots_on_uneven_background():
    rng = np.random.default_rng(0)
    spots = np.zeros((160, 160), bool)
    spots[tuple(rng.integers(5, 155, (2, 40)))] = True
    spots = ndi.binary_dilation(spots)
    haze = ndi.gaussian_filter(rng.normal(size=spots.shape), 25)
    image = 100 + 30 * haze / haze.std() + 60 * spots + rng.normal(0, 6, spots.shape)
    judge = judged([image], keep=True)
    assert dice(judge.mask(judge.ranking()[0]), spots) > 0.6


def test_objects_in_noise_are_told_from_the_noise():
    y, x = np.mgrid[:192, :192]
    truth = ((y % 96 - 48) ** 2 + (x % 96 - 48) ** 2 < 13**2).astype(float)
    image = np.random.default_rng(0).poisson(6 + 3 * ndi.gaussian_filter(truth, 1))
    judge = judged([image], keep=True)
    assert dice(judge.mask(judge.ranking()[0]), truth > 0) > 0.85


def test_large_objects_stay_filled():
    y, x = np.mgrid[:192, :192]
    truth = (y - 90) ** 2 + (x - 100) ** 2 < 55**2
    image = 40 * truth + np.random.default_rng(0).normal(0, 12, truth.shape)
    judge = judged([image], keep=True)
    assert dice(judge.mask(judge.ranking()[0]), truth) > 0.95


def test_relief_is_told_by_its_texture():
    image, truth = relief()
    judge = judged([image], keep=True)
    ranking = judge.ranking()
    assert ranking[0].name == "texture"
    assert dice(judge.mask(ranking[0]), truth) > 0.85
    confidence = judge.confidence(ranking)
    assert confidence.level == "low"
    assert "as often brighter as darker" in confidence.reasons[0]
    assert [start.name for start in judge.suggested(ranking, 6)].count("texture") == 1


@pytest.mark.parametrize("strength", [0.8, 1.5, 2.2])
def test_halos_do_not_turn_the_polarity(strength):
    image, truth = halos(strength)
    judge = judged([image], keep=True)
    ranking = judge.ranking()
    assert (ranking[0].name, ranking[0].polarity) == ("within_halos", "dark")
    assert dice(judge.mask(ranking[0]), truth) > 0.85
    assert judge.suggested(ranking, 6)[-1].polarity == "bright"
    assert not any("bright or dark" in reason for reason in judge.confidence(ranking).reasons)


def test_masks_made_for_halos_and_relief_are_ranked_only_there(judge):
    names = {start.name for start in judge.ranking()}
    assert not names & {"texture", "within_halos"}


@pytest.mark.parametrize(("made", "name"), [(relief, "texture"), (halos, "within_halos")])
@pytest.mark.parametrize("given", ["bright", "dark"])
def test_a_polarity_that_is_given_overrules_halos_and_relief(made, name, given):
    starts = judged([made()[0]], polarity=given).ranking()
    assert {start.polarity for start in starts} == {given}
    assert name not in {start.name for start in starts}


def scores(image):
    return {start.name: start.score for start in judged([image]).ranking()}


def test_masks_that_suit_the_intensities_rank_higher(monkeypatch):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    far = np.hypot(y % 64 - 32, x % 64 - 32)
    three = 0.35 * (far < 22) + 0.65 * (far < 12) + rng.normal(0, 0.03, far.shape)
    two = (far < 22) + rng.normal(0, 0.03, far.shape)
    before = scores(three), scores(two)
    monkeypatch.setattr("napari_metastructure.few_labels.ranking._SUITABLE", 1)
    monkeypatch.setattr("napari_metastructure.few_labels.ranking._PLAIN", 1)
    after = scores(three), scores(two)
    for name, of_three, of_two in (
        ("top", 1.1, 1),  # the highest of three classes
        ("vote_clear", 1, 1.1),  # the two classes are clear
        ("otsu", 1.05, 1.05),  # plain
        ("flat_otsu", 1, 1),
    ):
        assert before[0][name] == pytest.approx(of_three * after[0][name]), name
        assert before[1][name] == pytest.approx(of_two * after[1][name]), name


def test_starts_that_differ(judge):
    six = judge.different(judge.ranking(), 6)
    assert len(six) == 6
    for number, one in enumerate(six):
        assert all(judge.dice(one, other) < 0.9 for other in six[:number])


def test_strokes_lead_the_ranking(judge):
    ranking = judge.ranking()
    truth = discs()[1]
    wanted = min(ranking, key=lambda start: dice(judge.mask(start), truth))
    mask = judge.mask(wanted)
    strokes = [np.where(mask, 2, 1), np.zeros(mask.shape, int)]
    first = judge.ranking(strokes)[0]
    assert dice(judge.mask(first), mask) > 0.99
    assert judge.ranking([np.zeros(mask.shape, int)] * 2) == ranking


def test_judgement_prefers_objects_to_nonsense(judge):
    truth = [discs()[1], discs(seed=1)[1]]
    nonsense = [np.random.default_rng(0).random(t.shape) < 0.2 for t in truth]
    assert judge.score(truth, "bright") > 1.5 * judge.score(nonsense, "bright")
    assert judge.score([t & False for t in truth], "bright") == 0


def test_masks_of_the_bank_are_judged_as_in_the_ranking(judge):
    for start in [s for s in judge.ranking() if not s.name.startswith("vote")][::15]:
        masks = [judge.mask(start, number) for number in range(len(judge.parts))]
        weight = 1 if start.polarity == judge.polarity else judge.weight
        assert weight * judge.score(masks, start.polarity) == pytest.approx(start.score, rel=0.05)


def test_confidence_names_what_is_unclear(judge):
    assert judge.confidence(judge.ranking()).level == "high"
    checks = np.indices((64, 64)).sum(0) // 8 % 2 + np.random.default_rng(0).normal(
        0, 0.1, (64, 64)
    )
    unclear = judged([checks])
    confidence = unclear.confidence(unclear.ranking())
    assert confidence.level == "low"
    assert "bright or dark" in confidence.reasons[0]
    # bright halos around dark bacteria give 0.55
    unsure = judged([discs()[0]])
    unsure.agreed_skewness = 0.55
    assert "bright or dark" in unsure.confidence(unsure.ranking()).reasons[0]


def test_same_images_same_ranking(judge):
    again = judged([discs()[0], discs(seed=1)[0]])
    assert again.ranking() == judge.ranking()


def test_nothing_to_judge():
    judge = judged([np.zeros((9, 9))])
    assert judge.ranking() == []
    assert judge.confidence([]).level == "low"


def test_evenly_spread_parts_are_few_and_small():
    stack = np.zeros((40, 600, 700))
    places = evenly_spread(list(stack))
    assert len(places) == 12
    assert places[0][0] == 0
    assert places[-1][0] == 39
    index, where = places[5]
    assert stack[index][where].shape == (512, 512)
    volume = np.zeros((1, 30, 20, 20))
    sections = evenly_spread(list(volume))
    assert len(sections) == 12
    assert volume[0][sections[3][1]].shape == (20, 20)


def test_every_mask_has_a_name_of_its_own():
    assert len(set(BANK)) == len(BANK) > 40

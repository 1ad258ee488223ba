"""The sentence and the curves of a sweep."""

import pytest

from napari_metastructure.sweep import report


def row(kind, amount, dice, seed=0, status="done"):
    scores = dict.fromkeys(report.SCORES) | {"dice": dice}
    seconds = {"seconds": 1.0, "status": status, "error": ""}
    return {"kind": kind, "amount": amount, "seed": seed, **scores, **seconds}


CLEAN = row("clean", None, 0.80)


def test_curves_are_means_over_seeds_in_order():
    table = [row("flip", 0.4, 0.7), row("flip", 0.2, 0.8), row("flip", 0.4, 0.5, seed=1)]
    assert report.curves(table) == {
        "flip": [(0.2, 0.8, 0.0, 1), (0.4, pytest.approx(0.6), pytest.approx(0.1), 2)]
    }
    assert report.clean_level(table) is None


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([row("sample", 0.5, 0.80), row("sample", 0.1, 0.79)], "10 % of the labelled"),
        ([row("sample", 0.5, 0.79), row("sample", 0.1, 0.7)], "50 % of the labelled"),
        (
            [row("sample", 0.5, 0.7), row("sample", 0.1, 0.8)],
            "50 % of the labelled pixels cost 0.10",
        ),
        ([row("flip", 0.2, 0.79), row("flip", 0.4, 0.7)], "Up to 20 % of the pixels may have"),
        ([row("flip", 0.2, 0.60)], "20 % of flipped pixels cost 0.20."),
        (
            [row("dilate", 1, 0.797), row("dilate", 2, 0.7), row("dilate", 4, 0.85)],
            "Outlines too wide: 1 px costs nothing, 2 px costs 0.10, 4 px gains 0.05.",
        ),
        ([row("random", None, 0.3)], "Random labels: costs 0.50."),
        ([row("flip", 0.2, None, status="failed")], "1 of 2 runs failed and is left out."),
        (
            [row("flip", 0.2, None, status="failed") | {"error": "No memory."}] * 2,
            "2 of 3 runs failed and are left out (No memory).",
        ),
    ],
)
def test_summary(table, text):
    summary = report.summary([CLEAN, *table])
    assert "Full annotation reaches a Dice of 0.80." in summary
    assert text in summary


def test_the_least_amount_tried_is_said_to_be_so():
    assert "10 %" in report.summary([CLEAN, row("sample", 0.1, 0.8)])
    assert "the least tried" in report.summary([CLEAN, row("sample", 0.1, 0.8)])
    both = [CLEAN, row("sample", 0.1, 0.5), row("sample", 0.5, 0.8)]
    assert "the least tried" not in report.summary(both)


def test_figure_has_a_panel_for_each_family():
    kinds = ("sample", "flip", "dilate", "erode", "skeletonize", "random")
    table = [CLEAN, *(row(kind, None if kind in report.NO_AMOUNT else 0.5, 0.5) for kind in kinds)]
    assert report.panels(kinds) == [
        ["sample"],
        ["flip"],
        ["dilate", "erode"],
        ["skeletonize", "random"],
    ]
    axes = report.figure(table).axes
    assert [axis.get_xlabel() for axis in axes] == [
        "pixels kept [%]",
        "pixels flipped [%]",
        "pixels or borders moved by [px]",
        "",
    ]
    assert report.figure([]).axes

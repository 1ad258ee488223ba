"""The comparison dock, clicked in a real napari window."""

import csv

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

import napari_metastructure as nms
from napari_metastructure import corrupt
from napari_metastructure.labels import comparison, density, transition
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.plugin.docks import compare
from tests.plugin.conftest import assert_same_place


@pytest.fixture
def dock(placed_layers, open_dock):
    return open_dock("Compare labels")[1]


@pytest.fixture
def three():
    """Stripes of classes 0, 1 and 2, three pixels wide: (2, 60, 60)."""
    stripes = np.repeat(np.arange(20) % 3, 3).astype(np.uint8)
    return np.broadcast_to(stripes, (2, 60, 60)).copy()


def compare_now(qtbot, dock, reference, other):
    dock.reference.value, dock.other.value = reference, other
    assert dock.panel.run_button.isEnabled(), dock.panel.reason.text()
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=30_000)
    return dock.found


def shown(dock):
    """The table of scores as it is shown, ``table[class][title]``."""
    rows = csv.DictReader(dock.scores.as_text().splitlines())
    return {row.pop(""): {name: float(value or "nan") for name, value in row.items()}
            for row in rows}  # fmt: skip


def test_noisy_against_clean(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    noisy = viewer.add_labels(corrupt(labels.data, "flip", ratio=0.3, seed=1), name="noisy")
    found = compare_now(qtbot, dock, labels, noisy)
    scores = evaluate(labels.data, noisy.data)
    row = shown(dock)["1"]
    assert row["Dice"] == pytest.approx(scores["dice"], abs=6e-4)
    assert row["AUC"] == pytest.approx(scores["auc"], abs=6e-4)
    assert "Threshold" not in row
    np.testing.assert_array_equal(found.counts, transition.count(labels.data, noisy.data))
    np.testing.assert_allclose(
        dock.matrix.matrix(), transition.estimate(labels.data, noisy.data), atol=6e-4
    )
    text = dock.verdict.text()
    assert str(transition.judge(labels.data, noisy.data)) in text
    assert "Rank 2: 2 of 2" in text
    assert f"kept: {density.kept(labels.data, noisy.data):.3f}" in text
    assert "noisy against mask" in dock.title.text()


def test_moved_borders_are_judged_and_drawn(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    moved = viewer.add_labels(corrupt(labels.data, "dilate", radius=2), name="moved")
    dock.errors.value = True
    compare_now(qtbot, dock, labels, moved)
    assert "Distorted: borders moved by about" in dock.verdict.text()
    errors = viewer.layers["moved errors"]
    np.testing.assert_array_equal(errors.data, 2 * (moved.data != labels.data))
    assert_same_place(errors, labels)
    assert errors.features["error"].tolist() == ["none", "missed", "extra", "wrong class"]


def test_objects_are_counted(qtbot, viewer, dock, placed_layers, tmp_path):
    _, labels = placed_layers
    dilated = viewer.add_labels(corrupt(labels.data, "dilate", radius=1), name="dilated")
    compare_now(qtbot, dock, labels, dilated)
    assert not dock.object_scores.isVisible()
    dock.objects.value = "connected parts"
    dock.errors.value = True
    found = compare_now(qtbot, dock, labels, dilated)
    expected = nms.compare(labels.data, dilated.data, objects="components").objects
    assert found.objects == expected
    rows = list(csv.DictReader(dock.object_scores.as_text().splitlines()))
    assert [row[""] for row in rows] == [f"IoU ≥ {x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert float(rows[0]["F1"]) == pytest.approx(expected.rows[0]["f1"], abs=6e-4)
    assert str(expected) in dock.verdict.text()
    assert "missed" in dock.legend.text()
    dock.save_scores(tmp_path / "scores.csv")
    assert "IoU ≥ 0.9" in (tmp_path / "scores.csv").read_text(encoding="utf-8")
    dock.dims.value = 3
    found = compare_now(qtbot, dock, labels, dilated)
    volumes = nms.compare(labels.data, dilated.data, objects="components", spatial_dims=3)
    assert found.objects == volumes.objects


def test_probability_is_scored_at_its_best_threshold(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    noise = np.random.default_rng(0).normal(0, 0.1, labels.data.shape)
    data = (0.2 + 0.3 * labels.data + noise).clip(0, 1).astype(np.float32)
    probability = viewer.add_image(data, name="probability")
    found = compare_now(qtbot, dock, labels, probability)
    scores = evaluate(labels.data, data)
    for name, title in compare._TITLES.items():
        assert shown(dock)["1"][title] == pytest.approx(scores[name], abs=6e-4)
    cut = (data > scores["threshold"]).astype(np.uint8)
    np.testing.assert_array_equal(found.counts, transition.count(labels.data, cut))
    assert f"{scores['threshold']:.3f}" in dock.matrix_title.text()


def test_many_pixels_are_scored_plane_by_plane(qtbot, viewer, dock, placed_layers, monkeypatch):
    monkeypatch.setattr(comparison, "MANY_PIXELS", 100)
    monkeypatch.setattr(comparison, "JUDGED_PIXELS", 64 * 64 * 2)
    _, labels = placed_layers
    data = np.random.default_rng(0).random(labels.data.shape).astype(np.float32)
    data = (data + labels.data) / 2
    compare_now(qtbot, dock, labels, viewer.add_image(data, name="probability"))
    scores = evaluate(labels.data, data)
    assert shown(dock)["1"]["AUC"] == pytest.approx(scores["auc"], abs=1e-3)
    assert shown(dock)["1"]["Dice"] == pytest.approx(scores["dice"], abs=1e-3)
    assert "on 2 planes" in dock.verdict.text()


def test_several_classes(qtbot, viewer, open_dock, three):
    labels = viewer.add_labels(three, name="three")
    other = np.where(three == 2, 1, three)
    other[0, :9, :6] = 2
    dock = open_dock("Compare labels")[1]
    dock.errors.value = True
    found = compare_now(qtbot, dock, labels, viewer.add_labels(other, name="other"))
    per_class = evaluate(three, other)["per_class"]
    for value in (1, 2):
        assert shown(dock)[str(value)]["Dice"] == pytest.approx(per_class[value]["dice"], abs=6e-4)
    assert shown(dock)["mean"]["IoU"] == pytest.approx(
        np.mean([per_class[value]["iou"] for value in (1, 2)]), abs=6e-4
    )
    np.testing.assert_array_equal(found.counts, transition.count(three, other))
    wrong = np.where(three != other, np.where(three == 0, 2, 3), 0)
    np.testing.assert_array_equal(viewer.layers["other errors"].data, wrong)
    merged = viewer.add_labels(np.where(three == 2, 1, three), name="merged")
    compare_now(qtbot, dock, labels, merged)
    assert "1 and 2 cannot be told apart" in dock.verdict.text()
    assert "Classes in only one of the layers: 2." in dock.verdict.text()


def test_probabilities_of_several_classes(qtbot, viewer, open_dock, three):
    labels = viewer.add_labels(three, name="three")
    data = np.stack([three == value for value in range(3)]) * 0.6 + 0.1
    data += 0.5 * np.random.default_rng(0).random(data.shape)
    dock = open_dock("Compare labels")[1]
    found = compare_now(qtbot, dock, labels, viewer.add_image(data, name="all"))
    assert not dock.form.is_shown("only_class")
    np.testing.assert_array_equal(found.counts, transition.count(three, data.argmax(0)))
    auc = evaluate(three == 2, data[2])["auc"]
    assert shown(dock)["2"]["AUC"] == pytest.approx(auc, abs=6e-4)

    dock.other.value = viewer.add_image(data[2], name="of 2")
    assert dock.form.is_shown("only_class")
    dock.only_class.value = "2"
    found = compare_now(qtbot, dock, labels, viewer.layers["of 2"])
    assert list(shown(dock)) == ["2"]
    assert shown(dock)["2"]["AUC"] == pytest.approx(auc, abs=6e-4)
    assert found.matrix.shape == (2, 2)


def test_masks_of_255_and_ignored_pixels(qtbot, viewer, open_dock):
    reference = np.zeros((40, 40), np.int16)
    reference[10:30, 10:30] = 255
    reference[:5] = -1
    other = np.zeros((40, 40), np.uint8)
    other[10:30, 5:30] = 1
    other[:5] = 1
    dock = open_dock("Compare labels")[1]
    dock.errors.value = True
    layers = viewer.add_labels(reference, name="a"), viewer.add_labels(other, name="b")
    found = compare_now(qtbot, dock, *layers)
    assert shown(dock)["255"]["Dice"] == pytest.approx(2 * 400 / 900, abs=6e-4)
    np.testing.assert_array_equal(found.counts, [[900, 100], [0, 400]])
    assert np.count_nonzero(viewer.layers["b errors"].data) == 100


def test_copy_and_save(qtbot, dock, placed_layers, viewer, tmp_path):
    _, labels = placed_layers
    compare_now(qtbot, dock, labels, viewer.add_labels(labels.data.copy(), name="same"))
    dock.copy_button.click()
    assert QApplication.clipboard().text().splitlines() == [
        "\tDice\tIoU\tAccuracy\tAUC",
        "1\t1.000\t1.000\t1.000\t1.000",
    ]
    dock.save_scores(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == dock.scores.as_text()


def test_reasons_why_it_cannot_run(qtbot, viewer, open_dock, three):
    _, dock = open_dock("Compare labels")
    assert "Add a Labels layer" in dock.panel.reason.text()
    labels = viewer.add_labels(three, name="three")
    assert "Choose another layer" in dock.panel.reason.text()
    dock.other.value = viewer.add_labels(three[0], name="one plane")
    assert "three has shape (2, 60, 60) but one plane has (60, 60)" in dock.panel.reason.text()
    assert not dock.panel.run_button.isEnabled()
    notification_manager.records.clear()
    compare_now(qtbot, dock, labels, viewer.add_labels(np.where(three, three + 4, 0)))
    assert len(notification_manager.records) == 1
    assert "no class in common" in notification_manager.records[-1].message


def test_many_labels_are_taken_for_instances(qtbot, viewer, open_dock, three):
    dock = open_dock("Compare labels")[1]
    labels = viewer.add_labels(three, name="three")
    instances = viewer.add_labels(np.where(three, np.arange(7200).reshape(three.shape), 0))
    compare_now(qtbot, dock, labels, instances)
    assert shown(dock)["1"]["Dice"] == 1
    assert "which look like numbered objects" in dock.verdict.text()

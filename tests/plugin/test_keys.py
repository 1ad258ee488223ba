"""Our keys take none away from napari."""

from pathlib import Path

from napari.utils.shortcuts import default_shortcuts

from napari_metastructure.plugin.keys import KEYS


def test_no_key_is_one_of_napari():
    labels = ("label", "brush", "polygon", "toggle", "show", "select", "dims", "view", "layer")
    taken = {
        str(key)
        for name, keys in default_shortcuts.items()
        if any(part in name for part in labels)
        for key in keys
    }
    assert {"P", "E", "V", "M"} <= taken
    assert not taken & set(KEYS.values())


def test_keys_act_on_the_dock_in_front(qtbot, viewer, placed_layers, open_dock):
    def press(action):
        keys = {str(key): act for key, act in viewer.keymap.items()}
        keys[KEYS[action]](viewer)

    corrupt = open_dock("Corrupt labels")[1]
    window, compare = open_dock("Compare labels")
    qtbot.waitUntil(lambda: not compare.visibleRegion().isEmpty())
    assert KEYS["run"] in compare.panel.run_button.toolTip()
    assert KEYS["stop"] in compare.panel.stop_button.toolTip()
    started = []
    for dock in (corrupt, compare):
        dock.panel.run_button.clicked.connect(lambda *_, dock=dock: started.append(dock))
    press("run")  # nothing to compare with: the button is disabled
    assert not started
    viewer.window.remove_dock_widget(window)
    qtbot.waitUntil(lambda: not corrupt.visibleRegion().isEmpty())
    press("run")
    assert started == [corrupt]
    qtbot.waitUntil(lambda: not corrupt.panel.running, timeout=20_000)
    press("next_place")  # none of its own
    corrupt.parent().close()
    viewer.window.remove_dock_widget(corrupt)
    assert not {str(key) for key in viewer.keymap} & set(KEYS.values())


def test_previews_are_shown_and_hidden(qtbot, viewer, placed_layers, open_dock):
    dock = open_dock("Density distributions")[1]
    qtbot.waitUntil(dock.isVisible)
    dock.radius.value = 4
    qtbot.waitUntil(lambda: "density preview" in viewer.layers, timeout=20_000)
    dock._act("toggle_overlay")
    assert not viewer.layers["density preview"].visible
    dock._act("toggle_overlay")
    assert viewer.layers["density preview"].visible


def test_each_action_has_a_key_of_its_own():
    assert len(set(KEYS.values())) == len(KEYS)


def test_the_docs_name_each_key():
    text = (Path(__file__).parents[2] / "docs/docks.md").read_text(encoding="utf-8")
    assert all(f"**{key}**" in text for key in KEYS.values())

"""Our keys take none away from napari."""

from napari.utils.shortcuts import default_shortcuts

from napari_metastructure.plugin.keys import KEYS


def test_no_key_is_one_of_napari():
    labels = ("labels", "new_label", "label", "brush", "polygon", "napari:toggle", "napari:show")
    taken = {
        str(key)
        for name, keys in default_shortcuts.items()
        if any(part in name for part in labels)
        for key in keys
    }
    assert {"P", "E", "V", "M"} <= taken
    assert not taken & set(KEYS.values())


def test_each_action_has_a_key_of_its_own():
    assert len(set(KEYS.values())) == len(KEYS)

from napari_metastructure.words import counted


def test_a_single_one_has_no_plural():
    assert [counted(n, "plane") for n in (0, 1, 2)] == ["0 planes", "1 plane", "2 planes"]

"""Names of files: which a source stands for, and in which order."""

from pathlib import Path

import numpy as np
import pytest

from napari_metastructure.files.names import natural, paths_of
from napari_metastructure.files.outputs import check_apart


def test_brackets_in_the_names_of_folders_stand_for_themselves(tmp_path, monkeypatch):
    folder = tmp_path / "plate [2]" / "well*"
    folder.mkdir(parents=True)
    for name in ("a1.npy", "a2.npy"):
        np.save(folder / name, np.zeros((2, 2)))
    for source in (folder / "*.npy", folder / "a[12].npy", tmp_path / "plate [2]" / "**" / "*.npy"):
        assert paths_of(source) == [folder / "a1.npy", folder / "a2.npy"]
    with pytest.raises(ValueError, match=r"matches .* an input of this run"):
        check_apart(folder / "new.npy", folder / "*.npy")
    check_apart(folder / "new.tif", folder / "*.npy")
    monkeypatch.chdir(folder)
    assert paths_of("*.npy") == [Path("a1.npy"), Path("a2.npy")]
    with pytest.raises(ValueError, match=r"matches .* an input of this run"):
        check_apart("new.npy", "*.npy")


def test_numbers_in_names_count_and_raised_ones_are_letters():
    assert sorted(["10.tif", "2.tif", "1²2.tif"], key=natural) == ["1²2.tif", "2.tif", "10.tif"]

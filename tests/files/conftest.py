"""What the tests of files share."""

import numpy as np
import pytest
import tifffile

LABELS = np.random.default_rng(0).integers(0, 3, (3, 12, 10)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """images/ and masks/ of three files, named so that plain sorting would get them wrong."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number, mask in zip((1, 2, 10), LABELS):
        tifffile.imwrite(tmp_path / "masks" / f"{number}.tif", mask)
        image = mask.astype(np.uint16) * 100
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image, compression="lzw")
    return tmp_path


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text

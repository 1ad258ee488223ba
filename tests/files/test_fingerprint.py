import json

import dask.array as da
import numpy as np
import tifffile

from napari_metastructure.files.fingerprint import digest, fingerprint
from tests.files.conftest import LABELS


def test_fingerprint_tells_changed_files(folder, monkeypatch):
    before = fingerprint(folder / "images")
    assert before == fingerprint(folder / "images") == json.loads(json.dumps(before))
    assert before["files"] == 3
    tifffile.imwrite(folder / "images" / "2.tif", LABELS[1])
    assert fingerprint(folder / "images")["sha256"] != before["sha256"]
    monkeypatch.setattr("napari_metastructure.files.fingerprint._HASHED_WHOLE", 1)
    sampled = fingerprint(folder / "images")
    assert sampled["sampled"]
    tifffile.imwrite(folder / "images" / "2.tif", LABELS[2])
    assert fingerprint(folder / "images")["sha256"] != sampled["sha256"]


def test_digest_does_not_depend_on_how_pixels_are_stored():
    lazy = da.from_array(LABELS, chunks=(2, 5, 5))
    assert digest(LABELS) == digest(lazy) == digest([LABELS])
    assert digest(LABELS) != digest(LABELS.astype(np.int32))
    other = LABELS.copy()
    other[0, 0, 0] += 1
    assert digest(LABELS) != digest(other)

"""Where results go: nothing of the user's is lost, and a name stands for what is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_metastructure.files import reservations
from napari_metastructure.files.outputs import (
    Output,
    check_apart,
    check_new,
    free_name,
    image_path,
    with_ending,
)
from napari_metastructure.files.read import read
from napari_metastructure.files.records import record_path
from napari_metastructure.files.reservations import reserve
from napari_metastructure.files.results import own_record, result_digest
from napari_metastructure.files.write import save, write

ONE, TWO = np.eye(8, dtype=np.uint8), np.ones((8, 8), np.uint8)


def made(path, data, *, partial=False, overwrite=False):
    """A result with its record, as a run leaves it; returns its path."""
    output = Output(path, overwrite=overwrite, of_a_run=True)
    save(output.draft, data, complete=not partial)
    digest, path = result_digest(output.draft), output.settle(partial)
    one = {"path": str(path), "digest": digest}
    record = {"operation": "corrupt", "config": {}, "options": {}, "inputs": {}, "versions": {}}
    output.commit({**record, "outputs": {"output": one}, "partial": partial})
    return path


def hidden(folder):
    return [item.name for item in folder.rglob(".*part*")]


# ---------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("er_v0.1", "er_v0.1.safetensors"),
        ("er_v0.1.safetensors", "er_v0.1.safetensors"),
        ("M.SAFETENSORS", "M.safetensors"),
        ("a b.c d", "a b.c d.safetensors"),
        ("er.v1.", "er.v1..safetensors"),
    ],
)
def test_dots_stay_and_a_missing_ending_is_added(typed, name):
    assert with_ending(typed, ".safetensors").name == name


def test_home_is_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert with_ending("~/m", ".safetensors") == tmp_path / "m.safetensors"
    assert image_path("~/a.tif") == tmp_path / "a.tif"
    write("~/a.tif", ONE)
    assert (tmp_path / "a.tif").is_file()


@pytest.mark.parametrize("name", ["p.png", "p.h5", "results_v1.2", "P.ZARR", "a.tif.gz"])
def test_endings_that_cannot_be_written_are_refused(name):
    with pytest.raises(ValueError, match="should end in"):
        image_path(name)


def test_free_names_keep_the_ending(tmp_path):
    path = tmp_path / "r.ome.tif"
    path.touch()
    assert free_name(path).name == "r-2.ome.tif"
    (tmp_path / "r-2.ome.tif").touch()
    assert free_name(path).name == "r-3.ome.tif"
    assert free_name(path, "partial").name == "r-partial.ome.tif"


# ------------------------------------------------------------------------- what is read


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    write(folder, np.stack([ONE, TWO]))
    return folder


@pytest.mark.parametrize(
    ("result", "source"),
    [
        ("images", "images"),
        ("images/0000.tif", "images"),
        ("images/new.tif", "images"),
        ("images/deep/new.tif", "images"),
        ("images/0000.tif", "images/0000.tif"),
        (".", "images"),
        (".", "images/0000.tif"),
        ("link", "images"),
        ("images", "link"),
        ("link/0000.tif", "images/0000.tif"),
        ("images/new.tif", "images/*.tif"),
        ("hard.tif", "images/0000.tif"),
        ("images/../images/0000.tif", "images/0000.tif"),
    ],
)
def test_results_never_lie_on_or_in_what_is_read(images, monkeypatch, result, source):
    monkeypatch.chdir(images.parent)
    Path("link").symlink_to("images")
    os.link("images/0000.tif", "hard.tif")
    with pytest.raises(ValueError, match="input of this run"):
        check_apart(result, source)
    with pytest.raises(ValueError, match="input of this run"):
        check_apart(result, [source])


def test_results_beside_what_is_read_are_fine(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    check_apart("new.tif", "images")
    check_apart("images2", "images")
    check_apart("images/new.tif", "images/0000.tif")
    check_apart("images/new.npy", "images/*.tif")
    check_apart("images/model.safetensors", "images", is_image=False)


def test_results_do_not_take_the_name_that_stands_for_channels(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    for number in range(2):
        shutil.copy("images/0000.tif", f"cell_{number:04}.tif")
    for result in ("cell.tif", "cell_0001.tif"):
        with pytest.raises(ValueError, match="input of this run"):
            check_apart(result, "cell.tif")
    check_apart("cell.ome.tif", "cell.tif")


def test_results_never_lie_in_a_zarr_that_is_read(tmp_path):
    pytest.importorskip("zarr")
    write(tmp_path / "x.ome.zarr", ONE)
    for result in ("x.ome.zarr", "x.ome.zarr/labels", "x.ome.zarr/0/out.tif"):
        with pytest.raises(ValueError, match="input of this run"):
            check_apart(tmp_path / result, tmp_path / "x.ome.zarr", is_image=False)


# --------------------------------------------------------------------- what is replaced


def test_an_own_result_is_replaced_and_nothing_else(tmp_path):
    path = made(tmp_path / "r.tif", ONE)
    with pytest.raises(FileExistsError, match="exists already"):
        check_new(path, of_a_run=True)
    made(path, TWO, overwrite=True)
    np.testing.assert_array_equal(read(path).data, TWO)
    assert own_record(path)
    write(path, ONE, overwrite=True)  # someone corrects it
    with pytest.raises(FileExistsError, match="was changed since"):
        check_new(path, overwrite=True, of_a_run=True)
    record_path(path).unlink()
    with pytest.raises(FileExistsError, match="not made by this program"):
        check_new(path, overwrite=True, of_a_run=True)


def test_records_of_others_are_not_replaced(tmp_path):
    path = tmp_path / "r.tif"
    record_path(path).write_text('{"notes": "mine"}')
    with pytest.raises(FileExistsError, match="exists already"):
        check_new(path, of_a_run=True)
    with pytest.raises(FileExistsError, match=r"is not the record of r\.tif"):
        check_new(path, overwrite=True, of_a_run=True)
    record_path(path).unlink()
    made(path, ONE)
    path.unlink()
    check_new(path, overwrite=True, of_a_run=True)


def test_links_are_not_replaced(tmp_path):
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "nowhere.tif")
    with pytest.raises(FileExistsError, match="exists already"):
        check_new(tmp_path / "dangling.tif")
    with pytest.raises(FileExistsError, match="is a link"):
        check_new(tmp_path / "dangling.tif", overwrite=True)


@pytest.mark.parametrize("name", ["r", "r.ome.zarr"])
def test_folders_with_other_things_are_not_replaced(tmp_path, name):
    pytest.importorskip("zarr")
    stack = np.stack([ONE, TWO])
    path = tmp_path / name
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    for options in ({}, {"of_a_run": True}):
        with pytest.raises(FileExistsError, match=r"not ma[dk]e"):
            check_new(path, overwrite=True, **options)
    (path / "notes.txt").unlink()
    path.rmdir()
    made(path, stack)
    made(path, 1 - stack, overwrite=True)
    np.testing.assert_array_equal(read(path).data, 1 - stack)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"not ma[dk]e"):
        write(path, stack, overwrite=True)
    assert (path / "notes.txt").is_file()


def test_files_that_were_put_into_a_folder_of_results_are_kept(tmp_path):
    path = made(tmp_path / "r", np.stack([ONE, TWO]))
    write(path / "0002.tif", ONE)
    with pytest.raises(FileExistsError, match=r"not ma[dk]e"):
        check_new(path, overwrite=True)


# ------------------------------------------------------------------ from draft to name


@pytest.mark.parametrize("name", ["r.tif", "r.npy", "r", "r.ome.zarr"])
def test_an_earlier_result_stays_until_the_new_one_is_whole(tmp_path, name):
    pytest.importorskip("zarr")
    stack = np.stack([ONE, TWO])
    path = made(tmp_path / name, stack)
    before = record_path(path).read_bytes()
    output = Output(path, overwrite=True, of_a_run=True)
    save(output.draft, 1 - stack)
    np.testing.assert_array_equal(read(path).data, stack)
    output.discard()
    np.testing.assert_array_equal(read(path).data, stack)
    assert record_path(path).read_bytes() == before
    assert not hidden(tmp_path)


@pytest.mark.parametrize("name", ["r.tif", "r.npy", "r", "r.ome.zarr"])
def test_what_is_unfinished_says_so_and_replaces_nothing_whole(tmp_path, name):
    pytest.importorskip("zarr")
    stack = np.stack([ONE, TWO])
    path = made(tmp_path / name, stack, partial=True)
    assert path.name == name
    assert not read(path).complete
    made(path, stack, overwrite=True)  # one that is not finished may be replaced
    assert read(path).complete
    other = made(path, 1 - stack, partial=True, overwrite=True)
    assert other.name.startswith("r-partial")
    assert read(path).complete
    assert not read(other).complete
    np.testing.assert_array_equal(read(path).data, stack)


def test_a_partial_record_is_only_that_of_its_pixels(tmp_path):
    path = made(tmp_path / "r.npy", ONE, partial=True)
    np.save(path, TWO)
    assert read(path).complete


def test_the_second_of_two_runs_to_one_name_is_refused(tmp_path):
    first = Output(tmp_path / "r.tif")
    with pytest.raises(FileExistsError, match=r"Another run is writing .*r\.tif"):
        Output(tmp_path / "r.tif")
    first.discard()
    Output(tmp_path / "r.tif").discard()
    assert not hidden(tmp_path)


def test_what_came_to_lie_there_meanwhile_is_kept(tmp_path):
    output = Output(tmp_path / "r.tif")
    save(output.draft, ONE)
    output.settle()
    write_plain = b"someone else's"
    (tmp_path / "r.tif").write_bytes(write_plain)
    output.commit()
    assert (tmp_path / "r.tif").read_bytes() == write_plain
    assert output.path.name == "r-2.tif"
    np.testing.assert_array_equal(read(output.path).data, ONE)


KILLED = """
import sys, time
import numpy as np
from napari_metastructure.files.outputs import Output
from napari_metastructure.files.write import save
output = Output(sys.argv[1], overwrite=True)
save(output.draft, np.ones((8, 8), np.uint8))
if sys.argv[2] == "renaming":
    old = output._folder / "old"
    old.mkdir()
    output.path.rename(old / output.path.name)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("when", ["working", "renaming"])
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, when):
    path = made(tmp_path / "r", np.stack([ONE, TWO]))
    command = [sys.executable, "-c", KILLED, str(path), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "ready\n"
        with pytest.raises(FileExistsError, match=f"Another run .*process {run.pid} on"):
            reserve(path)
        run.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert hidden(tmp_path)
    Output(tmp_path / "other.tif").discard()
    assert not hidden(tmp_path)
    np.testing.assert_array_equal(read(path).data, np.stack([ONE, TWO]))


def test_a_reservation_of_another_machine_is_respected(tmp_path):
    folder = reserve(tmp_path / "r.tif")
    owner = json.loads((folder / "owner.json").read_text())
    (folder / "owner.json").write_text(json.dumps({**owner, "host": "elsewhere"}))
    with pytest.raises(FileExistsError, match="on elsewhere"):
        reserve(tmp_path / "r.tif")


def test_a_reservation_without_owner_is_given_a_minute(tmp_path):
    folder = tmp_path / ".r.tif.part"
    folder.mkdir()
    with pytest.raises(FileExistsError, match="Another run"):
        reserve(tmp_path / "r.tif")
    long_ago = time.time() - 2 * reservations._SECONDS_TO_SETTLE
    os.utime(folder, (long_ago, long_ago))
    assert reserve(tmp_path / "r.tif") == folder


def test_names_that_differ_in_case_only_do_not_go_to_one_folder(tmp_path):
    from napari_metastructure.files.pixels import Pixels

    like = Pixels(np.stack([ONE, TWO]), "iyx", (1.0,) * 3, ("pixel",) * 3, ("x", "X"))
    with pytest.raises(ValueError, match="2 results would have the name x"):
        write(tmp_path / "out", like.data, like=like)
    assert not (tmp_path / "out").exists()


def test_a_single_plane_goes_to_a_folder_as_one_file(tmp_path):
    write(tmp_path / "out", ONE)
    assert read(tmp_path / "out").data.shape == (1, 8, 8)


def test_a_list_does_not_go_to_one_file(tmp_path):
    with pytest.raises(ValueError, match="no ending"):
        write(tmp_path / "out.tif", [ONE, TWO[:4]])


@pytest.mark.parametrize("name", ["z.npy", "z.ome.tif", "z.ome.zarr", "z"])
def test_a_full_disk_is_told_for_every_format(tmp_path, name):
    pytest.importorskip("zarr")
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 255, (2, 300, 300), dtype=np.uint8)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="The disk is full") as error:
            write(tmp_path / name, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert ".part" not in str(error.value)
    assert not list(tmp_path.iterdir())

import os
import subprocess
import sys

import pytest

from napari_metastructure.plugin import demo, system_packages

ABSENT = {"libEGL.so.1": "libegl1", "Xvfb": "xvfb"}


@pytest.fixture(autouse=True)
def bare_debian(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(system_packages, "missing", lambda: ABSENT)
    monkeypatch.setattr(system_packages.shutil, "which", {"apt-get": "/usr/bin/apt-get"}.get)


def test_missing_packages_are_named_in_one_line(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(SystemExit, match=r"sudo apt-get install -y libegl1 xvfb$") as stop:
        system_packages._main()
    assert "\n" not in stop.value.code


def test_missing_libraries_are_named_where_there_is_no_apt(monkeypatch):
    monkeypatch.setattr(system_packages.shutil, "which", lambda program: None)
    with pytest.raises(SystemExit, match=r"need libEGL\.so\.1, Xvfb") as stop:
        system_packages._main()
    assert "\n" not in stop.value.code


def test_root_gets_the_missing_packages(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(
        system_packages, "_install", lambda packages: asked.append(packages) or True
    )
    system_packages._main()
    assert asked == [["libegl1", "xvfb"]]


def test_nothing_is_missing_elsewhere(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(system_packages, "_loads", lambda library: False)
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert system_packages.missing() == {}
        assert system_packages.has_display()


def test_without_a_display_the_virtual_one_is_needed_too(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(system_packages, "_loads", lambda library: library != "libEGL.so.1")
    monkeypatch.setattr(system_packages.shutil, "which", lambda program: None)
    monkeypatch.setenv("DISPLAY", ":0")
    assert system_packages.missing() == {"libEGL.so.1": "libegl1"}
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert set(system_packages.missing()) == {"libEGL.so.1", "Xvfb", "xauth"}


def test_the_demo_tells_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "missing", lambda: ABSENT)
    with pytest.raises(RuntimeError, match=r"sudo apt-get install -y libegl1 xvfb$"):
        demo.run(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_the_demo_tells_that_qt_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "qtpy", None)
    with pytest.raises(RuntimeError, match="there is no Qt here; install it"):
        demo.run(tmp_path / "demo")


def test_a_demo_that_fails_on_the_virtual_display_is_no_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "missing", dict)
    monkeypatch.setattr(demo, "has_display", lambda: False)
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(demo.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(RuntimeError, match="failed; the reason is printed above"):
        demo.run(tmp_path / "demo")

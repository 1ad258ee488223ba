"""Make sure that the system libraries behind Qt 6, OpenGL and the virtual display are there.

A bare Debian or Ubuntu lacks most of them. Run as a script, it installs them for root, and tells
anyone else in one line what to install. On macOS and Windows there is nothing to do. It needs
nothing but Python, so that it can run before anything is installed.
"""

import ctypes
import os
import shutil
import subprocess
import sys

__all__ = ["has_display", "how_to_install", "missing"]

# What Qt's wheels link to but do not carry -> its package on Debian and Ubuntu, which
# brings the rest along: Mesa's drivers, a font, the other xcb libraries.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
# The virtual display, where there is no other; xvfb-run needs xauth.
PROGRAMS = {"Xvfb": "xvfb", "xauth": "xauth"}


def has_display() -> bool:
    """Whether a window can be opened here."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def missing() -> dict[str, str]:
    """What this machine lacks: library or program -> Debian package.

    Returns
    -------
    dict of str to str
        Empty where nothing is missing.
    """
    if sys.platform != "linux":
        return {}
    libraries = {name: package for name, package in LIBRARIES.items() if not _loads(name)}
    if has_display():
        return libraries
    return libraries | {name: p for name, p in PROGRAMS.items() if not shutil.which(name)}


def how_to_install(absent: dict[str, str]) -> str:
    """One sentence: what is missing, and what to type.

    Parameters
    ----------
    absent : dict of str to str
        Library or program -> Debian package, as `missing` gives it.

    Returns
    -------
    str
        For systems without apt-get, the names of the libraries.
    """
    if shutil.which("apt-get"):
        needs = "Qt, OpenGL or the virtual display need system packages; install them"
        return f"{needs}: {_by_hand(absent)}"
    return (
        f"Qt, OpenGL or the virtual display need {', '.join(absent)}, which this system lacks: "
        "install them with its package manager, then try again."
    )


def _by_hand(absent):
    packages = " ".join(sorted(absent.values()))
    return f"sudo apt-get update && sudo apt-get install -y {packages}"


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _install(packages):
    """Install Debian packages as root; True if apt-get says that it worked."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*apt, "update"], env=environment)  # a source that is down need not matter
    done = subprocess.run(
        [*apt, "install", "--yes", "--no-install-recommends", *packages], env=environment
    )
    return done.returncode == 0


def _main():
    absent = missing()
    if not absent:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(how_to_install(absent))
    if not _install(sorted(absent.values())):
        sys.exit(f"apt-get failed to install what Qt and OpenGL need; try: {_by_hand(absent)}")


if __name__ == "__main__":
    _main()

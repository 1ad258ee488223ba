"""Make sure that the system libraries behind Qt 6, OpenGL and the virtual display are there.

A bare Debian or Ubuntu lacks most of them. Root gets them installed, anyone else
is told in one line what to install. On macOS and Windows there is nothing to do.
"""

import ctypes
import os
import shutil
import subprocess
import sys

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


def loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing():
    """What this machine lacks: library or program -> Debian package."""
    libraries = {name: package for name, package in LIBRARIES.items() if not loads(name)}
    if os.environ.get("DISPLAY"):
        return libraries
    return libraries | {name: p for name, p in PROGRAMS.items() if not shutil.which(name)}


def install(packages):
    """Install Debian packages as root; True if apt-get says that it worked."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*apt, "update"], env=environment)  # a source that is down need not matter
    done = subprocess.run(
        [*apt, "install", "--yes", "--no-install-recommends", *packages], env=environment
    )
    return done.returncode == 0


def main():
    absent = missing() if sys.platform == "linux" else {}
    if not absent:
        return
    if not shutil.which("apt-get"):
        sys.exit(
            f"Qt, OpenGL or the virtual display need {', '.join(absent)}, which this system lacks: "
            "install them with its package manager, then try again."
        )
    packages = sorted(absent.values())
    by_hand = f"sudo apt-get update && sudo apt-get install -y {' '.join(packages)}"
    if os.geteuid() != 0:
        sys.exit(f"Qt, OpenGL or the virtual display need system packages; install them: {by_hand}")
    if not install(packages):
        sys.exit(f"apt-get failed to install what Qt and OpenGL need; try by hand: {by_hand}")


if __name__ == "__main__":
    main()

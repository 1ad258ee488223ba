"""What the package promises as a whole: its storeys, a light import, its metadata, its manifest."""

import ast
import configparser
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

NAME = "napari_metastructure"
PACKAGE = Path(importlib.util.find_spec(NAME).origin).parent
ROOT = Path(__file__).parents[1]

# A folder imports from itself and from those before it, not from one beside it in the same entry.
STOREYS = (
    ("arrays",),
    ("files",),
    ("jobs",),
    ("labels",),
    ("learning",),
    ("few_labels", "sweep"),
    ("runs",),
    ("plugin",),
    ("cli",),
)
QT_BINDINGS = {"PyQt5", "PyQt6", "PySide2", "PySide6"}
GUI = QT_BINDINGS | {"magicgui", "napari", "pyqtgraph", "qtpy", "superqt", "vispy"}
TORCH = {"monai", "safetensors", "torch", "torchvision"}
BARRED = dict.fromkeys(("arrays", "files", "labels"), GUI | TORCH)
BARRED |= dict.fromkeys(("jobs", "learning", "few_labels", "sweep", "runs"), GUI)


def modules():
    """The path of each module below the package's folders, relative to the package."""
    return sorted(
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE
    )


def imports(path):
    """The full name of all that a file imports, inside functions too."""
    parent = ".".join([NAME, *path.relative_to(PACKAGE).parent.parts])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(source, parent)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def trespasses(path):
    """The imports of a file that its folder may not have."""
    folder = path.relative_to(PACKAGE).parts[0]
    height = next(number for number, names in enumerate(STOREYS) if folder in names)
    reach = {name for names in STOREYS[:height] for name in names} | {folder, "parameters", "words"}
    reach.add("__version__")
    for name in imports(path):
        top, _, inner = name.partition(".")
        too_high = top == NAME and inner.split(".")[0] not in reach
        if too_high or top in BARRED.get(folder, ()):
            yield name


def run_python(code):
    """What the code prints in a fresh interpreter, read as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loaded_after(statement, names):
    """Which of the named packages a statement loads in a fresh interpreter."""
    return run_python(
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({names!r} & sys.modules.keys())))"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="others have another OpenMP")
def test_threads_of_torch_do_not_spin_for_long(monkeypatch):
    """Where the cores are busy, a step of a training took up to ten times as long."""

    def spinning():
        code = f"import {NAME}, torch"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr

    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert "GOMP_SPINCOUNT = '10000'" in spinning()
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")  # the user's own choice
    assert "GOMP_SPINCOUNT = '10000'" not in spinning()


@pytest.mark.parametrize("module", modules())
def test_storeys(module):
    assert list(trespasses(PACKAGE / module)) == []


def test_no_circle_of_imports():
    """Neither at the top of a file nor inside functions."""
    files = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }
    uses = {
        name: {known for full in imports(path) for known in (full, full.rpartition(".")[0])}
        & (files.keys() - {name})
        for name, path in files.items()
    }
    TopologicalSorter(uses).prepare()  # raises and names the circle


def test_package_itself_imports_only_its_version():
    own = {name for name in imports(PACKAGE / "__init__.py") if name.startswith(NAME)}
    assert own == {f"{NAME}._version.version"}


@pytest.mark.parametrize(
    ("folder", "line", "fits"),
    [
        ("labels", "import numpy as np", True),
        ("labels", f"from {NAME}.parameters import Field", True),
        ("labels", "from . import noise", True),
        ("labels", f"from {NAME}.arrays import axes", True),
        ("labels", "def f():\n    import torch.nn", False),
        ("labels", f"from {NAME}.learning.losses import dice", False),
        ("labels", f"from {NAME} import learning", False),
        ("labels", f"import {NAME} as nms", False),
        ("learning", "from torch import nn", True),
        ("learning", f"from {NAME}.plugin import layers", False),
        ("learning", f"from {NAME} import train", False),
        ("learning", "def f():\n    from qtpy.QtCore import Qt", False),
        ("few_labels", f"def f():\n    from {NAME}.sweep.plan import plan", False),
        ("plugin", "from . import parts\nimport napari, torch", True),
        ("plugin", f"from {NAME}.cli import main", False),
    ],
)
def test_storeys_test_finds_trespassers(folder, line, fits, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    file = tmp_path / folder / "module.py"
    file.parent.mkdir()
    file.write_text(line)
    assert (list(trespasses(file)) == []) is fits


def test_import_is_light():
    assert loaded_after(f"import {NAME}", GUI | TORCH) == []


def test_command_line_starts_without_qt():
    assert loaded_after(f"import {NAME}.cli.main", GUI) == []


def test_import_takes_less_than_50_ms_beyond_numpy():
    code = f"""
import numpy, time
start = time.perf_counter()
import {NAME}
print(time.perf_counter() - start)"""
    # a busy machine may stall a run, not ten of them
    assert any(run_python(code) < 0.05 for _ in range(10))


def test_dependencies_leave_the_choice_of_napari_and_qt():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {r.name: r for r in map(Requirement, project["dependencies"])}
    assert not {name.lower() for name in QT_BINDINGS} & {name.lower() for name in required}
    assert not any("pyqt" in extra or "pyside" in extra for extra in required["napari"].extras)
    assert not {"all", "pyqt", "pyside"} & required["napari"].extras
    assert {s.operator for s in required["napari"].specifier} <= {">", ">=", "!="}
    assert "napari[all]" in project["optional-dependencies"]["all"]
    assert project["requires-python"] == ">=3.11"


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = (extras[name] for name in ("bioimageio", "bioio", "distributed", "networks"))
    declared = [*project["dependencies"], *(text for texts in optional for text in texts)]
    names = {Requirement(text).name.replace("-", "_") for text in declared}
    other = {"pyyaml": "yaml", "scikit_image": "skimage", "scikit_learn": "sklearn"}
    other |= {"pillow": "PIL", "bioimageio.spec": "bioimageio"}
    known = {other.get(name, name) for name in names} | sys.stdlib_module_names | {NAME}
    used = {name.split(".")[0] for path in PACKAGE.rglob("*.py") for name in imports(path)}
    assert used <= known


def test_conda_recipe_asks_for_the_same():
    import yaml

    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    other = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask": "dask-core"}
    declared = {
        other.get(r.name, r.name): str(r.specifier)
        for r in map(Requirement, project["dependencies"])
    }
    run = dict((*line.split(), "")[:2] for line in recipe["requirements"]["run"])
    assert run.pop("python") == ">=${{"
    assert run == declared
    assert project["requires-python"] == f">={recipe['context']['python_min']}"
    [command] = recipe["build"]["python"]["entry_points"]
    assert [command] == [f"{name} = {at}" for name, at in project["scripts"].items()]
    assert recipe["about"]["license"] == project["license"]


@pytest.mark.parametrize("tool", ["mypy", "numpydoc", "ruff"])
def test_each_checker_has_one_version(tool):
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    version = re.search(rf"/\S*{tool}\S*\n    rev: v(\S+)", hooks)[1]
    assert f"{tool}=={version}" in tox["testenv:lint"]["deps"].split()


def test_type_check_gives_the_same_answer_whatever_is_installed():
    """Each library is skipped by mypy, or a dependency of the environment that runs it."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    installed = {Requirement(line).name for line in tox["testenv:lint"]["deps"].split("\n") if line}
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    skipped = {name.split(".")[0] for entry in overrides for name in entry["module"]}
    used = {name.split(".")[0] for path in PACKAGE.rglob("*.py") for name in imports(path)}
    assert used <= skipped | installed | sys.stdlib_module_names


def test_types_are_told_to_others():
    assert (PACKAGE / "py.typed").is_file()


@pytest.fixture
def manifest():
    from npe2 import PluginManifest

    return PluginManifest.from_file(PACKAGE / "napari.yaml")


def test_manifest_is_valid_and_every_command_resolves(manifest):
    from npe2.manifest.utils import import_python_name

    assert manifest.name == "napari-metastructure"
    assert manifest.display_name
    assert manifest.categories
    for command in manifest.contributions.commands:
        assert callable(import_python_name(command.python_name)), command.id


def test_manifest_refers_to_its_own_commands(manifest):
    contributions = manifest.contributions
    known = {command.id for command in contributions.commands}
    used = {item.command for item in [*contributions.widgets, *(contributions.sample_data or [])]}
    assert used <= known


def test_each_widget_is_in_a_menu(manifest):
    listed = {
        getattr(item, "command", None)
        for items in manifest.contributions.menus.values()
        for item in items
    }
    assert {widget.command for widget in manifest.contributions.widgets} <= listed


def test_opening_a_widget_does_not_wait_for_torch(manifest):
    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    opened = {commands[widget.command].split(":")[0] for widget in manifest.contributions.widgets}
    assert loaded_after("\n".join(f"import {module}" for module in sorted(opened)), TORCH) == []


def _public_functions(body, private=False):
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _public_functions(node.body, private or node.name.startswith("_"))
        elif isinstance(node, ast.FunctionDef) and not private:
            yield from [node] * (node.name == "__init__" or not node.name.startswith("_"))


@pytest.mark.parametrize("module", modules())
def test_public_functions_have_type_hints(module):
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    without = [
        f"{node.name}({argument.arg})"
        for node in _public_functions(tree.body)
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if argument.annotation is None and argument.arg not in ("self", "cls")
    ]
    without += [
        f"{node.name} ->"
        for node in _public_functions(tree.body)
        if node.returns is None and node.name != "__init__"
    ]
    assert without == []

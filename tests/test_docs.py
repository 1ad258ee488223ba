"""What the documentation shows is there: names, commands, options, files and anchors."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import napari_metastructure as nms
from napari_metastructure.cli.main import commands

PROGRAMS = ("napari-metastructure", "napari_metastructure")
ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]


def blocks(page, language):
    """The code blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def each(language):
    """Every block as a test of its own."""
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


def dotted(node):
    """The name that an attribute expression spells; empty if it is more than a name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *names[::-1]]) if isinstance(node, ast.Name) else ""


def fetched(module, name):
    """A name of a module, or a module in a package."""
    found = importlib.import_module(module)
    try:
        return getattr(found, name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_of_a_language_that_is_checked(page):
    fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.M)
    assert set(fences) <= {"", "python", "sh", "text", "yaml"}
    assert all(fences[::2])


@pytest.mark.parametrize("block", each("python"))
def test_python_uses_names_that_there_are(block):
    known = {"nms": nms}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("napari_metastructure"):
            for alias in node.names:
                known[alias.asname or alias.name] = fetched(node.module, alias.name)
    for node in ast.walk(ast.parse(block)):
        name = dotted(node) if isinstance(node, ast.Attribute) else ""
        first, *rest = name.split(".")
        if first in known and isinstance(node.ctx, ast.Load):
            found = known[first]
            for part in rest:
                found = getattr(found, part)


@pytest.mark.parametrize("block", each("sh"))
def test_commands_have_the_options_that_are_shown(block):
    for line in re.sub(r"\\\n", " ", block).splitlines():
        words = shlex.split(line, comments=True)
        program = next(
            (w for w in words if w in ("napari-metastructure", "napari_metastructure")), 0
        )
        if not program:
            continue
        name, *arguments = words[words.index(program) + 1 :]
        command = commands.commands[name]
        options = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        assert {word for word in arguments if re.match(r"-{1,2}[a-z]", word)} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target


def test_each_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: napari_metastructure\.(\S+)$", text, re.M))
    modules = {f"{folder}.{name}" for name, folder in nms._MODULES.items()}
    names = {f"{module}.{name}" for name, module in nms._NAMES.items()}
    missing = {name for name in names if not {name, name.rpartition(".")[0]} & shown}
    assert (modules - shown) | missing == set()


def test_each_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if f": {page}" not in navigation} == set()

"""The page of the API names what exists, and everything that the other pages import."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from documents import REPOSITORY, read_blocks

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^::: (jointdetr[\w.]*)", PAGE, flags=re.MULTILINE)
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def resolve(name: str) -> object:
    """The object of a dotted name: a module, or what a module holds."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def imported_names(page: Path) -> set[str]:
    """Dotted names of what the Python blocks of a page import from the package."""
    trees = [ast.parse(block.content) for block in read_blocks(page) if block.language == "python"]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if (node.module or "").startswith("jointdetr")]
    return {f"{node.module}.{alias.name}" for node in ours for alias in node.names}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_exists(name: str) -> None:
    assert resolve(name) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_other_pages_import_is_on_it(page: Path) -> None:
    shown = {*NAMES, *(f"{name}.{member}" for name in NAMES for member in getattr(resolve(name), "__all__", ()))}
    assert imported_names(page) <= shown

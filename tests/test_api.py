"""The reference that `make docs` writes: every public name has a docstring, and is on its page."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import get_origin

import pytest

import others

ROOT = Path(__file__).resolve().parents[1]
MODULES = ["others", *(found.name for found in pkgutil.walk_packages(others.__path__, "others."))]
PUBLIC = {
    name: names
    for name in MODULES
    if not name.endswith("__main__") and (names := getattr(importlib.import_module(name), "__all__", None))
}


def values_with_texts():
    """The names of constants and of types that have a text below them."""
    for path in (ROOT / "others").rglob("*.py"):
        for line, text in pairwise(ast.parse(path.read_text(encoding="utf-8")).body):
            below = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if below and isinstance(line, (ast.Assign, ast.AnnAssign)):
                yield from (part.id for part in ast.walk(line) if isinstance(part, ast.Name))


VALUES = set(values_with_texts())


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_docstring(module):
    assert len(PUBLIC) > 4
    for name in PUBLIC[module]:
        value = getattr(importlib.import_module(module), name)
        if inspect.ismodule(value) or inspect.isfunction(value):
            assert value.__doc__, f"{module}.{name}"
        elif isinstance(value, type) and not get_origin(value):
            assert vars(value).get("__doc__"), f"{module}.{name}"
        else:
            assert name in VALUES, f"{module}.{name}"


def test_the_reference_is_built(tmp_path):
    """Under the name that pip gives the package."""
    pytest.importorskip("pdoc", reason='needs pdoc: pip install ".[docs]" in the folder of the project')
    pytest.importorskip("noise2noise", reason="needs the package installed: pip install -e .")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, ROOT / "docs" / "api.py", tmp_path], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for module, names in PUBLIC.items():
        page = Path(tmp_path, *module.replace("others", "noise2noise", 1).split(".")).with_suffix(".html")
        text = page.read_text(encoding="utf-8")
        modules = {name for name in names if f"{module}.{name}" in MODULES and f'id="{name}"' not in text}
        assert [name for name in names if f'id="{name}"' not in text and name not in modules] == []
        assert all(f'href="{page.stem}/{name}.html"' in text for name in modules)
    for module in MODULES:
        if not module.endswith("__main__"):
            assert Path(tmp_path, *module.replace("others", "noise2noise", 1).split(".")).with_suffix(".html").is_file()

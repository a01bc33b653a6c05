"""Writes the reference of the package from its docstrings: python docs/api.py [FOLDER], by default out/api.

Needs pdoc, and the package installed (`make docs`), so that it is there under the name that pip gives it, noise2noise.
"""

import pkgutil
import re
import sys
import warnings
from html import escape
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "out" / "api"


def modules(name):
    """The module `name` and all below it, imported, but for what runs when it is imported."""
    module = import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if found.name != "__main__":
            yield from modules(f"{name}.{found.name}")
    yield module


def complete(module):
    """pdoc shows what stands in `__all__`: everything there is looked up, and the modules inside are added."""
    if hasattr(module, "__all__"):
        vars(module).update({name: getattr(module, name) for name in module.__all__})
        inside = [found.name for found in pkgutil.iter_modules(module.__path__) if found.name != "__main__"]
        module.__all__ = [*module.__all__, *(name for name in inside if name not in module.__all__)]


def as_it_is(docstring):
    """Docstrings hold formulas and tables of plain text, not Markdown. A line that was full goes on in the next."""
    flowing = re.sub(r"(?<=.{90})\n(?=\S)", " ", docstring)
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(flowing, quote=False))
    text = re.sub(r"(?m)^ .*(?:\n .*)*", r'<code style="background: none; padding: 0">\g<0></code>', text)
    return f'<div style="white-space: pre-wrap">{text}</div>' if text else ""


def main(folder):
    import pdoc
    import pdoc.render

    found = list(modules("noise2noise"))
    for module in found:
        complete(module)
    pdoc.render.env.filters["to_html"] = as_it_is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that checkers alone import, of modules found twice
        pdoc.pdoc(*(module.__name__ for module in found), output_directory=Path(folder))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else FOLDER)

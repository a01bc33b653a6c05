"""What graders import: Model, and every block of the framework it is built on; both are in others/.

Works as `from Miniproject_2.model import Model` from the project's folder and as `from model import Model` from
inside this one.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


def prefer_our_others() -> None:
    """Every submission has an others/: make sure that the one imported below stands beside this folder."""
    ours = str(HERE.parent / "others" / "__init__.py")
    loaded = sys.modules.get("others")
    if loaded is not None and getattr(loaded, "__file__", None) == ours:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "others"]:
        del sys.modules[name]  # whoever imported it keeps what it has
    found = find_spec("others")
    if found is None or found.origin != ours:
        sys.path.insert(0, str(HERE.parent))


prefer_our_others()

from others.model import Model  # noqa: E402
from others.nn import *  # noqa: E402, F403
from others.nn import __all__ as blocks  # noqa: E402

__all__ = ["Model", *blocks]

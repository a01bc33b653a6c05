"""The libraries that some things need beside torch, and what to do where one is missing."""

from __future__ import annotations

from pathlib import Path

PACKAGES = {
    "images": "pillow tifffile numpy",
    "eval": "scikit-image pywavelets",
    "export": "onnx numpy safetensors",
    "plots": "matplotlib",
}
"""{extra of pyproject.toml: its packages}."""
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def install(extra: str) -> str:
    """The command that installs an extra: by its name in the folder of the project, by its packages where that is not
    at hand, as in the course's zip."""
    if PROJECT.is_file():
        return f'pip install ".[{extra}]" in the folder of the project'
    return f"pip install {PACKAGES[extra]}"

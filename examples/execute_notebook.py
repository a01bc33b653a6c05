"""Run noise2noise.ipynb in a kernel of its own and keep its outputs. (`make notebook`)"""

import sys
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().with_name("noise2noise.ipynb")


def execute(path=NOTEBOOK, replacements=()):
    """The executed notebook. replacements: (old, new) in its source, to run it on less. Raises CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for old, new in replacements:
            cell.source = cell.source.replace(old, new)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran is of no interest
    return notebook


if __name__ == "__main__":
    import nbformat

    nbformat.write(execute(), NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1024:.0f} KiB")
    sys.exit(NOTEBOOK.stat().st_size > 300 * 1024)

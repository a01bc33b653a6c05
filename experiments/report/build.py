"""Typeset Miniproject_2/Report_2.pdf from the logs: `make report`.

    python -m experiments.report.build [--out Miniproject_2/Report_2.pdf] [--folder out/report] [--png]
        [--scipers 111111 222222]

Everything that the template reads (the numbers as JSON, the figures as SVG) is written below --folder first. The same
logs give the same bytes: the types come with the compiler, and no date is put in. --png also writes the pages as
pictures, --scipers puts the authors' numbers below the title. A sentence that its numbers refute is an error.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from .claims import verify
from .gather import ROOT, Missing, Unsupported, numbers

HERE = Path(__file__).resolve().parent
SOURCES = ("report.typ", "style.typ", "references.bib")


def prepare(folder, root=ROOT, scipers=()):
    """Write what the template reads. Raises Missing, and Unsupported where a sentence says what no number does."""
    from . import figures

    folder.mkdir(parents=True, exist_ok=True)
    found = numbers(root, scipers)
    verify((HERE / "report.typ").read_text(encoding="utf-8"), found)
    (folder / "numbers.json").write_text(json.dumps(found, indent=1))
    figures.draw(root, folder)
    for name in SOURCES:
        shutil.copy(HERE / name, folder)


def typeset(folder, format="pdf"):
    """bytes of the PDF, or a list with those of each page's PNG. Raises ImportError that says what to install."""
    try:
        import typst
    except ImportError as error:
        raise ImportError('the report needs typst: pip install ".[report]" in the folder of the project') from error
    options = {"root": folder, "ignore_system_fonts": True, "timestamp": 0, "ppi": 150}
    return typst.compile(folder / "report.typ", format=format, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "Miniproject_2" / "Report_2.pdf")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "report")
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--scipers", nargs="*", default=(), metavar="SCIPER")
    args = parser.parse_args()
    try:
        prepare(args.folder, scipers=args.scipers)
        args.out.write_bytes(typeset(args.folder))
        if args.png:
            for number, page in enumerate(typeset(args.folder, "png"), start=1):
                (args.folder / f"page-{number}.png").write_bytes(page)
    except (Missing, Unsupported, ImportError, RuntimeError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: three pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

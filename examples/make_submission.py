"""Write Proj_SCIPER1_SCIPER2_SCIPER3.zip in the course's structure, unzip it elsewhere and run test.py there.

python examples/make_submission.py [--report FILE] 111111 222222 333333

Only files that git tracks go in: Miniproject_2/, others/ and test.py; the README is made of submission.md. --report
puts another PDF in the place of Miniproject_2/Report_2.pdf: `make submission` gives the one with the authors' numbers.
The zip has to be smaller than 12 MB. Exit status 0 when the zip is ready, which takes two minutes.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Miniproject_2", "others", "test.py")
README = Path(__file__).with_name("submission.md")
REPORT = "Miniproject_2/Report_2.pdf"
LARGEST = 12 * 10**6  # bytes of the zip
NEEDED = ("Miniproject_2/__init__.py", "Miniproject_2/model.py", "Miniproject_2/bestmodel.pth", "test.py")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scipers", nargs="*", metavar="SCIPER")
    parser.add_argument("--report", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    scipers = args.scipers
    if len(scipers) not in (1, 2, 3) or not all(re.fullmatch(r"\d{6}", number) for number in scipers):
        print(f'expected one to three SCIPERs of six digits, as in SCIPERS="111111 222222", got {scipers}')
        return 2
    name = "Proj_" + "_".join(scipers)
    target = ROOT / f"{name}.zip"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        files = write(made, name, scipers, args.report)
        missing = [path for path in NEEDED if path not in files]
        if missing:
            print(f"not ready: {', '.join(missing)} missing")
            return 1
        if made.stat().st_size >= LARGEST:
            print(f"not ready: expected less than {LARGEST / 1e6:.0f} MB, got {made.stat().st_size / 1e6:.1f} MB")
            return 1
        with zipfile.ZipFile(made) as archive:
            archive.extractall(Path(folder) / "clean")
        if not passes(Path(folder) / "clean" / name):
            print("not ready: test.py failed in the unzipped folder")
            return 1
        fresh = target.with_suffix(".new")
        fresh.write_bytes(made.read_bytes())
        os.replace(fresh, target)
    if REPORT not in files:
        print(f"warning: {REPORT} is missing")
    print(f"{target} is ready: {len(files)} files, {target.stat().st_size / 1e6:.1f} MB, test.py passed in it")
    return 0


def write(path, name, scipers, report=None):
    """Zip the parts and the README below a folder `name`, with the PDF `report` if there is one -> their paths."""
    listing = subprocess.run(["git", "ls-files", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listing.stdout.split()
    readme = Template(README.read_text(encoding="utf-8")).substitute(scipers=", ".join(scipers))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in files:
            archive.write(report if report and file == REPORT else ROOT / file, f"{name}/{file}")
        archive.writestr(f"{name}/README.md", readme)
    return [*files, "README.md"]


def passes(folder):
    """Whether test.py passes there, where its own Miniproject_2 and others come first on the path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([sys.executable, "test.py"], cwd=folder, env=environment).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

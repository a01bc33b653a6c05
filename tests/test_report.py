"""The report: no number typed by hand, nothing missing in silence, three pages, the same bytes from the same logs."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import others
from experiments import show
from experiments.report import build, gather

ROOT = Path(__file__).resolve().parents[1]
#: Words of the template that have a digit in them: names, no figures.
NAMES = {"EE-559", "Noise2Noise", "Conv2d", "TransposeConv2d", "fp32", "bf16", "S4", "S4's"}


def typed(text):
    """What looks like a number in a template: every word with a digit but names, citations and powers in formulas."""
    text = re.sub(r"@\w+", "", text)  # @lehtinen2018
    text = re.sub(r"\^\d\b", "", text)  # $s^2$
    words = re.findall(r"[\w'-]*\d[\w.,'-]*", text)
    return [word for word in words if word.strip(".,'-") not in NAMES]


def test_no_number_in_the_text_is_typed():
    text = (ROOT / "experiments" / "report" / "report.typ").read_text()
    text = re.sub(r"#?n\.[\w.-]+|x\.[\w.-]+|#?speed\.[\w.-]+", "", text)  # keys: n.speed.fp32, x.s2-rates
    assert typed(text) == []


@pytest.mark.parametrize(
    "text", ["25.39 dB", "40 others", "*25*", "$2.25 times$", "S5", "3x3", "about 1e-6", "(9)", "ten, or 10"]
)
def test_a_typed_number_is_found(text):
    assert typed(text)


def test_the_style_has_no_text():
    """Dimensions are numbers too, so they have a file of their own, and that has no sentences."""
    style = (ROOT / "experiments" / "report" / "style.typ").read_text()
    code = re.sub(r"//.*", "", style)
    for content in re.findall(r"\[([^\[\]]*)\]", code):
        assert not typed(re.sub(r"#\w+(\([^)]*\))?", "", content)), content


# ------------------------------------------------------------------------------------------------------ sources

READERS = {
    gather.quality: "docs/results/quality.md",
    gather.conformance: "docs/results/conformance.md",
    gather.reliability: "docs/results/reliability.md",
    gather.beside: "experiments/report/published.json",
    gather.experiments: "experiments/logs/s0-blocks.jsonl",
    gather.speed: "docs/results/speed.md",
    (lambda root: gather.weights(root, "rednet")): "Miniproject_2/bestmodel.pth",
}


@pytest.mark.parametrize("reader", READERS, ids=READERS.values())
def test_a_missing_file_is_named_with_the_command_that_makes_it(reader, tmp_path):
    file = READERS[reader]
    with pytest.raises(gather.Missing, match=rf"^{re.escape(file)}: .*make it with: \w+"):
        reader(tmp_path)


@pytest.mark.parametrize("reader, line", [(gather.quality, "| clean image |"), (gather.conformance, "**3"),
                                          (gather.reliability, "kills survived")])  # fmt: skip
def test_a_missing_row_is_an_error(reader, line, tmp_path):
    file = READERS[reader]
    lines = (ROOT / file).read_text().splitlines(keepends=True)
    kept = [each for each in lines if line not in each]
    assert len(kept) < len(lines)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("".join(kept))
    with pytest.raises(gather.Missing, match=re.escape(file)):
        reader(tmp_path)


def test_tables_of_markdown():
    text = "words\n\n| a | `b` |\n|---|---:|\n| **1** | 2 |\n| 3 | |\n\nmore\n\n| c |\n| --- |\n| 4 |\n"
    assert list(gather.tables(text)) == [[["a", "b"], ["1", "2"], ["3", ""]], [["c"], ["4"]]]


# -------------------------------------------------------------------------------------------------- experiments


@pytest.fixture
def log(tmp_path, monkeypatch):
    """log((run, seed, last PSNR, done), ...): writes the log of an experiment of runs a and b=2, two seeds each."""
    declared = [{"run": f"{run}, seed {seed}"} for run in ("a", "b=2") for seed in (0, 1)]
    for module in (gather, show):
        monkeypatch.setattr(module, "declared", lambda experiment, scale: declared)

    def write(*runs):
        file = tmp_path / "experiments" / "logs" / "e.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        config = {"validation": "course", "epochs": 1, "images": 5000, "minutes": None}
        for run, seed, value, done in runs:
            line = {"experiment": "e", "run": f"{run}, seed {seed}", "scale": "full", "config": config | {"seed": seed}}
            with file.open("a") as opened:
                for epoch, psnr in enumerate((0.0, value)):
                    end = {"epoch": epoch, "images": epoch, "loss": 1.0, "psnr_a": psnr, "done": bool(epoch and done)}
                    opened.write(json.dumps(line | end) + "\n")
        return tmp_path

    return write


ALL = [("a", 0, 20.0, True), ("a", 1, 21.0, True), ("b=2", 0, 30.0, True), ("b=2", 1, 31.0, True)]


def test_runs_are_averaged_over_seeds(log):
    config, variants = gather.finished(log(*ALL), "e")
    assert gather.size(config, variants) == "1 epoch of 5,000 images, 2 seeds"
    assert gather.finals(variants) == {"a": "20.50 ± 0.71", "b=2": "30.50 ± 0.71"}
    ends = gather.extremes(variants)
    assert ends["best"] == ["2", "30.50"] and ends["worst"] == ["a", "20.50"] and ends["failed"] == "0"


def test_missing_seeds_are_said(log):
    config, variants = gather.finished(log(*ALL[:3], ("b=2", 1, 31.0, False)), "e")
    assert gather.size(config, variants) == "1 epoch of 5,000 images, 1 to 2 seeds"
    assert gather.finals(variants)["b=2"] == "30.00"


@pytest.mark.parametrize("runs", [[], ALL[:2], [*ALL[:2], ("b=2", 0, 31.0, False)]], ids=["none", "one", "unfinished"])
def test_a_missing_variant_is_an_error(log, runs):
    with pytest.raises(gather.Missing, match=r"experiments/logs/e.jsonl: .*make experiments"):
        gather.finished(log(*runs), "e")


def test_a_failed_run_is_counted_and_has_no_figure(log):
    _, variants = gather.finished(log(ALL[0], ("a", 1, None, True), *ALL[2:]), "e")
    assert gather.finals(variants)["a"] == "-" and gather.extremes(variants)["failed"] == "1"


# --------------------------------------------------------------------------------------------------------- build


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    pytest.importorskip("typst", reason="the report is typeset by typst (the extra `report`)")
    pytest.importorskip("matplotlib", reason="the report's figures are drawn by matplotlib (the extra `report`)")
    folder = tmp_path_factory.mktemp("report")
    build.prepare(folder)
    return folder


def test_three_pages(prepared):
    assert len(build.typeset(prepared, "png")) == 3


def test_the_same_logs_give_the_same_bytes(prepared, tmp_path):
    build.prepare(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in prepared.iterdir()}
    assert all(file.read_bytes() == (prepared / file.name).read_bytes() for file in tmp_path.iterdir())
    pdf = build.typeset(prepared)
    assert pdf.startswith(b"%PDF-") and pdf == build.typeset(tmp_path)


def test_another_number_of_pages_is_an_error(prepared, tmp_path):
    for file in prepared.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "report.typ").read_text()
    (tmp_path / "report.typ").write_text(text.replace("= Limits", "#pagebreak()\n#pagebreak()\n= Limits"))
    with pytest.raises(RuntimeError, match="three pages"):
        build.typeset(tmp_path)


def test_without_typst_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[report\]" in the folder of the project'):
        build.typeset(tmp_path)


def test_the_citation_names_the_version_of_the_project():
    assert f"\nversion: {others.__version__}\n" in (ROOT / "CITATION.cff").read_text()

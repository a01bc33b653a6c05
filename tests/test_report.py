"""The report: no number typed by hand, nothing missing in silence, three pages, the same bytes from the same logs."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import others
from experiments import measures, show
from experiments.report import build, claims, gather

ROOT = Path(__file__).resolve().parents[1]
#: Words of the template that have a digit in them: names, no figures.
NAMES = {"EE-559", "Noise2Noise", "Conv2d", "TransposeConv2d", "fp32", "bf16", "S0", "S1", "S2", "S3", "S4", "AVX-512",
         "BF16"}  # fmt: skip


def typed(text):
    """What looks like a number in a template: every word with a digit but names, citations and powers in formulas."""
    text = re.sub(r"@\w+", "", text)  # @lehtinen2018
    text = re.sub(r"\^\d\b", "", text)  # $s^2$
    words = re.findall(r"[\w'-]*\d[\w.,'-]*", text)
    return [word for word in words if word.strip(".,'-") not in NAMES]


def test_no_number_in_the_text_is_typed():
    text = (ROOT / "experiments" / "report" / "report.typ").read_text()
    text = re.sub(r"#?n\.[\w.-]+|x\.[\w.-]+|#?speed\.[\w.-]+", "", text)  # keys: n.speed.fp32, x.s2-rates
    text = re.sub(r"#finding\(\"[\w-]+\"\)", "", text)
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
    assert measures.average(variants) == {"a": 20.5, "b=2": 30.5}


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
    assert gather.finals(variants)["a"] == "-" and measures.average(variants) == {"b=2": 30.5}


# -------------------------------------------------------------------------------------------------------- claims

TEMPLATE = (ROOT / "experiments" / "report" / "report.typ").read_text()
JUDGING = re.compile(
    r"\b(better|best|worse|worst|more|most|less|least|fewer|few|larger|smaller|faster|slower|far|further|little|hardly|nearly|"
    r"level|ahead|behind|leads?|beats?|wins?|won|gains?|gained|lost|costs?|short|long|as fast|no longer)\b"
)
#: Sentences with such a word that judge nothing: what they say instead.
NO_JUDGEMENT = {
    "which are long sums": "how they are computed",
    "Where the result has few channels": "when a way is taken",
    "kernels, channels, a level": "what was added",
    "differ from torch's by at most": "the largest of a list",
    "makes the singular values of the momentum nearly equal": "what Muon is",
    "so nothing learnt was lost": "zeros change no output",
    "best published": "names of rows, and the choice of these weights",
    "the least gains are": "the smallest of a list",
    "times as long": "a ratio, as it was measured",
    "the better of its memory formats": "the smaller of two times",
}


@pytest.fixture(scope="module")
def numbers():
    return gather.numbers()


def sentences(text):
    """The sentences of a template but those of the section on what did not work, which says that it has no numbers."""
    before, after = text.split("= What did not work")
    return re.split(r"(?<=[.:])\s+(?=[A-Z@#*=])|\n\n", before + after.split("= Limits")[1])


def unchecked(text):
    """The sentences that judge and have no entry in claims.py."""
    known = [*(claim.words for claim in claims.CLAIMS), *NO_JUDGEMENT]
    rest = [claims.plain(sentence) for sentence in sentences(text)]
    for words in known:
        rest = [sentence.replace(words, "") for sentence in rest]
    return [sentence for sentence in rest if JUDGING.search(re.sub(r"#[\w.]+(\([^)]*\))?|[\w.-]*\.\w+", "", sentence))]


def test_every_sentence_that_judges_has_a_claim():
    assert unchecked(TEMPLATE) == []


def test_a_judgement_without_a_claim_is_found():
    assert unchecked(TEMPLATE.replace("= Limits", "= Limits\n\nOurs is the better one.")) == ["Ours is the better one."]


def test_the_numbers_bear_out_the_claims(numbers):
    claims.verify(TEMPLATE, numbers)


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.words[:40])
def test_a_claim_can_fail(claim, numbers):
    values = claim.values(numbers)
    assert claim.hold(values)
    disturbed = [values[::-1], [-value for value in values], [value * index for index, value in enumerate(values)]]
    assert not all(claim.hold(others) for others in disturbed)


def test_a_sentence_that_its_numbers_refute_is_an_error_that_names_it(numbers):
    changed = json.loads(json.dumps(numbers))
    changed["published"]["evaluated"]["torch.nn"] = "25.90"
    ours = re.escape(numbers["quality"]["rednet"]["once"][0])
    with pytest.raises(
        gather.Unsupported, match=rf"ahead of the best.*needs its PSNR A more.*numbers are {ours}, 25\.9$"
    ):
        claims.verify(TEMPLATE, changed)


def test_a_claim_that_the_text_does_not_make_any_more_is_an_error(numbers):
    with pytest.raises(gather.Unsupported, match="does not say 'Self-ensemble adds little' any more"):
        claims.verify(TEMPLATE.replace("adds little", "adds much"), numbers)


def test_the_framework_imports_what_the_report_says(numbers):
    assert numbers["code"]["imports"] == ["arange", "cat", "empty", "fold", "unfold"]
    assert "They import\n#n.code.imports" in TEMPLATE


def test_findings_have_apostrophes_and_no_primes(numbers):
    """The typesetter takes a straight one after a digit, as in S4's, for minutes."""
    sentences = "".join(numbers["findings"].values())
    assert "S4’s" in sentences and "'" not in sentences


def test_abstract_and_experiments_say_which_psnr():
    assert "*#prescribed.once.first() dB* (PSNR A," in TEMPLATE.split("strip:")[0]
    assert "All figures in dB are PSNR A." in TEMPLATE.split("= Experiments")[1]


def test_a_finding_that_its_runs_refute_is_an_error(monkeypatch):
    monkeypatch.setitem(gather.FINDINGS, "precision", lambda runs: ("bf16 is better.", False))
    with pytest.raises(gather.Unsupported, match=r"precision does not bear out: bf16 is better\.$"):
        gather.findings(ROOT)


def test_sentences_about_none_one_and_several():
    assert (
        gather.worse_than_they_went_in("9", 0, 0)
        == "No image of the 9 comes out worse than it went in, from either network"
    )
    assert gather.worse_than_they_went_in("9", 1, 0).endswith(
        ": 1 from the prescribed network and none from the RED-Net"
    )
    assert gather.harmed([], []) == "In the mean over the images neither network makes any noise worse"
    assert gather.harmed(["grey", "dark"], []).endswith(
        ": grey, dark from the prescribed network, none from the RED-Net"
    )


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


def test_the_authors_numbers_stand_below_the_title_and_take_no_room(prepared, numbers, tmp_path):
    assert json.loads((prepared / "numbers.json").read_text())["scipers"] == []
    scipers = ["111111", "222222", "333333"]
    build.prepare(tmp_path, scipers=scipers)
    assert json.loads((tmp_path / "numbers.json").read_text())["scipers"] == scipers
    assert build.typeset(tmp_path) != build.typeset(prepared)


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

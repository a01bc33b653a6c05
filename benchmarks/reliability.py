"""Run what shows that nothing breaks it, at full length, and write RELIABILITY.md: promise, test, count.

    python benchmarks/reliability.py [--fuzz-minutes 10] [--soak-minutes 30] [--examples 10000]

Everything runs at once but for the checks of the shipped Models, which come last: they time it. Exit status 1 when
anything failed; the table then says so.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
FILES = ["test_run.py", "test_hostile.py", "test_checkpoint.py", "test_distributed.py", "test_fuzz.py",
         "test_check_denoiser.py"]  # fmt: skip

#: (promise, test file, the tests in it whose cases count; a count that a test tells comes instead)
PROMISES = [
    ("A training killed by SIGKILL at a random moment leaves a file that loads, and ends with the bits of one that was "
     "not killed", "test_run", ["test_killed_at_any_moment_it_ends_with_the_same_bits"]),
    ("Stopped after any step, with either network, fp32 and bf16: the same bits", "test_run",
     ["test_a_training_stopped_after_any_step_ends_with_the_same_bits"]),
    ("SIGINT and SIGTERM end the step with a checkpoint; handlers are restored", "test_run",
     ["test_a_signal_ends_the_step_and_leaves_a_checkpoint", "test_handlers_are_those_from_before_whatever_happens",
      "test_the_callers_handler_is_called_and_may_let_it_go_on", "test_ignored_signals_stay_ignored",
      "test_in_another_thread_it_trains_without_handlers"]),
    ("The file of another training, of weights, or an incomplete one is refused and kept", "test_run",
     ["test_the_file_of_another_training_is_refused_and_kept", "test_an_incomplete_state_is_refused",
      "test_a_file_of_weights_is_not_overwritten"]),
    ("A loss that is lost stops the training with step, rate and advice, and the best weights stay", "test_run",
     ["test_a_loss_that_is_not_finite_stops_and_keeps_the_best_weights",
      "test_a_model_with_an_absurd_rate_stays_usable", "test_an_exploding_loss_stops_and_keeps_the_best_weights",
      "test_the_checkpoint_never_holds_weights_of_a_lost_training"]),
    ("A full disk, a limit on files, a missing folder: reported before anything is lost", "test_run",
     ["test_a_full_disk_is_reported_before_the_first_step", "test_a_disk_full_for_a_while_costs_nothing",
      "test_a_disk_too_small_for_what_will_come_is_reported_before_the_first_step",
      "test_a_disk_full_at_the_end_is_an_error_and_the_network_keeps_its_weights",
      "test_a_limit_on_the_size_of_files", "test_a_folder_that_is_not_there"]),
    ("A failed save leaves what was there, and no temporary file", "test_checkpoint",
     ["test_failed_save_leaves_what_was_there", "test_failed_replacement_leaves_what_was_there"]),
    ("A flipped bit never changes a weight unnoticed", "test_hostile", ["test_flipped_bits"]),
    ("A file that was cut off is refused", "test_hostile", ["test_truncated"]),
    ("Random bytes in directory, pickle and headers: refused or the same content", "test_hostile",
     ["test_random_bits_where_it_hurts"]),
    ("Files made to harm (bombs, gigabyte claims, foreign zips, links, pipes, folders): one clear error, at most 100 "
     "MiB, the Model as it was", "test_hostile", ["test_harmful_files"]),
    ("Code in a file is never run, whoever reads it", "test_hostile", ["test_a_payload_is_never_run"]),
    ("Every harmful file in a process of little memory", "test_hostile", ["test_a_bomb_in_little_memory"]),
    ("All misfits of weights in one message; files of released versions load; weights from CUDA load on a CPU",
     "test_hostile", ["test_all_problems_in_one_message", "test_the_shipped_file_loads_and_saves_again",
                      "test_weights_saved_on_cuda_load_on_a_cpu"]),
    ("Pairs larger than the memory stay on the disk", "test_hostile",
     ["test_pairs_stay_on_the_disk", "test_mapped_pairs_take_no_memory"]),
    ("2 processes: ranks and reruns bitwise equal, one process within 1e-6 after 20 steps; a killed rank, restarted, "
     "changes nothing", "test_distributed", ["test_two_processes_and_a_restart"]),
    ("3 processes, uneven and empty shares: the same; a killed rank ends the run within a minute and is named",
     "test_distributed", ["test_three_processes_and_a_death"]),
    ("A process that hangs is named within a minute", "test_distributed", ["test_a_process_that_hangs_is_named"]),
    ("Random changes of right files, all readers: refused with an error, or read; nothing else happens", "test_fuzz",
     ["test_changed_files_are_refused_or_read"]),
    ("A Model that breaks a promise is caught by check_denoiser, in one line", "test_check_denoiser",
     ["test_a_broken_model_is_caught", "test_side_effects_of_an_import_are_caught"]),
]  # fmt: skip


def start(*command, **environment):
    """A Python process, and the file that its output goes to: a pipe that nobody reads would stop it."""
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
                               env={**os.environ, **environment})  # fmt: skip
    return process, output


def ended(started):
    """Wait for it. -> (whether it went well, its last lines)"""
    process, output = started
    process.wait()
    output.seek(0)
    return process.returncode == 0, output.read().strip().splitlines()[-30:]


def run_tests(folder):
    """All files at once. -> {(file, test): [outcome, ...]}, {(file, test): {what: count}}"""
    told = folder / "counts"
    told.touch()
    running = [start("-m", "pytest", f"--junitxml={folder / file}.xml", f"tests/{file}", RELIABILITY=str(told))
               for file in FILES]  # fmt: skip
    for started in running:
        ended(started)
    outcomes, counts = {}, {}
    for case in (case for file in FILES for case in ElementTree.parse(folder / f"{file}.xml").iter("testcase")):
        key = case.get("classname").split(".")[-1], case.get("name").split("[")[0]
        bad = case.find("failure") is not None or case.find("error") is not None
        outcomes.setdefault(key, []).append("skipped" if case.find("skipped") is not None else "failed" if bad else "")
    for line in told.read_text().splitlines():
        node, what, number = json.loads(line)
        file, test = re.match(r".*?(\w+)\.py::(\w+)", node).groups()
        counts.setdefault((file, test), {})[what] = number
    return outcomes, counts


def rows(outcomes, counts):
    for promise, file, tests in PROMISES:
        found = [outcome for test in tests for outcome in outcomes.get((file, test), ["failed"])]
        told = [f"{number:,} {what}" for test in tests for what, number in counts.get((file, test), {}).items()]
        passed, failed = found.count(""), found.count("failed")
        result = "; ".join(told) or f"{passed} case{'s' * (passed != 1)}"
        yield promise, f"`tests/{file}.py`: {', '.join(tests)}", f"{result}{f'; {failed} FAILED' if failed else ''}"


def check_models():
    for name in ("prescribed", "rednet"):
        good, lines = ended(start("-m", "others.check_denoiser", "Miniproject_2.model:Model", name))
        said = lines[-1] if good else "; ".join(lines)
        yield f"check_denoiser on the {name} network as shipped", "`python -m others.check_denoiser`", said


def fuzzing(started, minutes):
    good, lines = ended(started)
    done = next((line for line in reversed(lines) if line.startswith("Done") or "files tried" in line), "FAILED")
    how = "atheris, guided by coverage" if done.startswith("Done") else "random changes"
    result = f"{done}; {minutes / 60:.2f} hours, {how}" if good else f"FAILED: {lines[-1] if lines else ''}"
    return "Fuzzing the checkpoint, pairs and picture readers", "`tests/fuzz/readers.py`", result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz-minutes", type=float, default=10)
    parser.add_argument("--soak-minutes", type=float, default=30)
    parser.add_argument("--examples", type=int, default=10_000, help="of hypothesis, for each property")
    parser.add_argument("--out", type=Path, default=ROOT / "RELIABILITY.md")
    args = parser.parse_args()
    seconds = int(60 * args.fuzz_minutes)
    guided = subprocess.run([sys.executable, "-c", "import atheris"], capture_output=True, check=False).returncode == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        how = [folder / "corpus", f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=30",
               f"-artifact_prefix={folder}/"] if guided else ["--seconds", seconds]  # fmt: skip
        fuzz = start("tests/fuzz/readers.py", *how)
        soak = start("tests/fuzz/soak.py", "--minutes", args.soak_minutes)
        properties = start("-m", "pytest", "tests/nn/test_any_block.py", HYPOTHESIS_PROFILE="nightly",
                           HYPOTHESIS_EXAMPLES=str(args.examples))  # fmt: skip
        table = list(rows(*run_tests(folder)))
        table.append(("Every block, random arguments, sizes and values: as torch, or its numerical gradient",
                      "`tests/nn/test_any_block.py`",
                      f"{max(200, args.examples):,} examples a property: {ended(properties)[1][-1]}"))  # fmt: skip
        table.append(fuzzing(fuzz, args.fuzz_minutes))
        good, lines = ended(soak)
        table.append(("Train and predict in turns: memory flat to 1 %", "`tests/fuzz/soak.py`",
                      f"{'' if good else 'FAILED: '}{lines[-1]}"))  # fmt: skip
    table += check_models()  # its clock wants the machine for itself
    args.out.write_text(page(table))
    return 1 if "FAILED" in args.out.read_text() else 0


def page(table):
    lines = ["# Reliability", "", "Each promise, the test that shows it, and how often it was tried. Written by "
             "`make reliability`; the same tests run with smaller counts in `make test`.", "",
             f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}, "
             f"threads: {torch.get_num_threads()}.", "",
             "| promise | test | count |", "|---|---|---|"]  # fmt: skip
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())

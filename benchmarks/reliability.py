"""Run what shows that nothing breaks it, at full length: docs/results/reliability.md, promise, test, count, time.

    python benchmarks/reliability.py [PART ...] [--fresh] [--fuzz-minutes 10] [--soak-minutes 30] [--examples 10000]

Parts are test files, `properties`, `fuzz`, `soak` and `models`; without names all of them. Results are kept in
out/reliability, a file for each: a part that has one is not run again, so that an interrupted run goes on, unless
--fresh. The page is made of all results there are. Exit status 1 when anything failed or is missing; the page says so.
"""

import argparse
import base64
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "out" / "reliability"
FILES = {Path(file).stem: file for file in (
    "tests/training/test_run.py", "tests/training/test_distributed.py", "tests/storage/test_hostile.py",
    "tests/storage/test_checkpoint.py", "tests/storage/test_files.py", "tests/test_fuzz.py",
    "tests/test_check_denoiser.py", "tests/cli/test_any_input.py", "tests/test_inference.py",
    "tests/nn/test_reference.py",
)}  # fmt: skip
READERS = "weights", "pairs", "pictures"
PARTS = *FILES, "fuzz", "models", "properties", "soak"
DENOISERS = "prescribed", "rednet"

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
      "test_a_limit_on_the_size_of_files", "test_a_folder_that_is_not_there",
      "test_a_disk_that_fills_up_in_the_middle_costs_nothing", "test_a_limit_in_the_middle_costs_nothing"]),
    ("A signal during a save is that signal and leaves no half file", "test_files",
     ["test_a_signal_during_a_save_is_that_signal_and_leaves_nothing",
      "test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not"]),
    ("Rights, owner and other programs' files stay", "test_files",
     ["test_a_new_file_has_the_rights_of_the_umask", "test_a_replaced_file_keeps_its_rights",
      "test_a_replaced_file_keeps_its_owner", "test_the_lock_of_another_program_is_left_alone"]),
    ("A resumed training has the same pixels, start and files, or is refused", "test_run",
     ["test_the_same_pixels_elsewhere_are_other_pairs", "test_one_changed_pixel_of_any_image_is_noticed",
      "test_another_start_is_refused"]),
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
    ("Two trainings never write one checkpoint: the second is refused, in words that name the file; a death frees it",
     "test_files", ["test_a_second_training_is_refused_and_changes_nothing", "test_a_process_that_died_has_no_lock",
                    "test_threads_exclude_each_other", "test_never_two_at_once",
                    "test_weights_put_into_one_file_at_the_same_time_are_all_there",
                    "test_an_interrupted_training_holds_no_lock_while_its_traceback_is_kept"]),
    ("Plain layers give torch's own bits", "test_reference", ["test_plain_layers_give_torchs_own_bits"]),
    ("A huge picture takes less than 1 GiB beside itself and its result", "test_inference", ["test_a_huge_picture"]),
    ("Any arguments, any files: exit status 0, 1 or 2, one line that says why, no traceback, inputs as they were",
     "test_any_input", ["test_any_arguments", "test_any_content", "test_what_a_resumed_training_finds",
      "test_no_input_is_overwritten_by_force", "test_every_command_refuses", "test_in_a_process_of_its_own"]),
    ("Random changes of right files, all readers: refused with an error, or read; nothing else happens", "test_fuzz",
     ["test_changed_files_are_refused_or_read"]),
    ("A Model that breaks a promise is caught by check_denoiser, in one line", "test_check_denoiser",
     ["test_a_broken_model_is_caught", "test_side_effects_of_an_import_are_caught"]),
]  # fmt: skip


# -------------------------------------------------------------------------------------------------------- running


def parts(args):
    """{part: the names of its results}; those of the properties are found by asking pytest."""
    for part in args.part or PARTS:
        if part == "properties":
            yield from (f"property {node}" for node in properties())
        elif part in ("fuzz", "models"):
            yield from (f"{part} {which}" for which in {"fuzz": READERS, "models": DENOISERS}[part])
        else:
            yield part


@cache
def properties():
    """The tests of hypothesis."""
    collect = [sys.executable, "-m", "pytest", "tests", "-m", "hypothesis", "--collect-only"]
    listed = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "::" in line]


def command(name, file, args):
    """(arguments for Python, environment) of one result."""
    kind, _, which = name.partition(" ")
    if kind == "property":
        environment = {"HYPOTHESIS_PROFILE": "nightly", "HYPOTHESIS_EXAMPLES": str(args.examples)}
        return ["-m", "pytest", which, f"--junitxml={file}.xml"], environment
    if kind == "fuzz":
        seconds = int(60 * args.fuzz_minutes / len(READERS))
        guided = [f"{file}.corpus", f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=120",
                  f"-artifact_prefix={file}-"]  # fmt: skip
        return ["tests/fuzz/readers.py", "--reader", which, *(guided if atheris() else ["--seconds", str(seconds)])], {}
    if kind == "models":
        return ["-m", "others.check_denoiser", "Miniproject_2.model:Model", which], {}
    if kind == "soak":
        return ["tests/fuzz/soak.py", "--minutes", str(args.soak_minutes)], {}
    return ["-m", "pytest", FILES[name], f"--junitxml={file}.xml"], {"RELIABILITY": f"{file}.counts"}


def atheris():
    return subprocess.run([sys.executable, "-c", "import atheris"], capture_output=True, check=False).returncode == 0


def result_file(name):
    return RESULTS / re.sub(r"[^\w.-]+", "_", name)


def measure(name, args):
    """Run it and keep what came of it."""
    file = result_file(name)
    for left in (f"{file}.xml", f"{file}.counts"):
        Path(left).unlink(missing_ok=True)
    arguments, environment = command(name, file, args)
    started, before = time.time(), cpu_seconds()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False, env={**os.environ, **environment})  # fmt: skip
    result = {
        "name": name,
        "revision": revision(),
        "date": time.strftime("%Y-%m-%d", time.localtime(started)),
        "seconds": time.time() - started,
        "cpu": cpu_seconds() - before,
        "status": done.returncode,
        "lines": done.stdout.strip().splitlines()[-30:],
        **junit(f"{file}.xml"),
        "counts": told(f"{file}.counts"),
    }
    Path(f"{file}.json").write_text(json.dumps(result, indent=1))
    print(f"{name}: status {done.returncode}, {result['seconds']:.0f} s", flush=True)  # fmt: skip


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def revision():
    """The commit, -dirty if a file differs from it, other than the page that is written here."""
    change = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results/reliability.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if change else "")


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def junit(path):
    """{"tests": {name: [(outcome, seconds) of each case]}, "examples": those of hypothesis} from pytest's XML."""
    tests, examples = {}, 0
    for case in ElementTree.parse(path).iter("testcase") if Path(path).is_file() else ():
        bad = case.find("failure") is not None or case.find("error") is not None
        outcome = "skipped" if case.find("skipped") is not None else "failed" if bad else "passed"
        tests.setdefault(case.get("name").split("[")[0], []).append((outcome, float(case.get("time"))))
    for said in ElementTree.parse(path).iter("property") if tests else ():
        if said.get("name").startswith("hypothesis-statistics"):
            text = base64.b64decode(said.get("value")).decode()
            examples += sum(map(int, re.findall(r"(\d+) passing", text)))
    return {"tests": tests, "examples": examples}


def told(path):
    """{test: {what: how often}}"""
    counts = {}
    for line in Path(path).read_text().splitlines() if Path(path).is_file() else ():
        node, what, number = json.loads(line)
        counts.setdefault(re.search(r"::(\w+)", node)[1], {})[what] = number
    return counts


# ------------------------------------------------------------------------------------------------------- the page


def rows(results):
    """(promise, test, count, minutes)"""
    for promise, file, tests in PROMISES:
        yield promise, f"`{FILES[file]}`: {', '.join(tests)}", *tested(results.get(file), tests)
    yield ("Every block, every kernel, any arguments, sizes and values: as torch, or the property that defines it",
           "`make nightly`: all tests of hypothesis", *nightly(results))  # fmt: skip
    for reader in READERS:
        yield (f"Fuzzing the reader of {reader}", f"`tests/fuzz/readers.py --reader {reader}`",
               *fuzzed(results.get(f"fuzz {reader}")))  # fmt: skip
    yield "Train and predict in turns: memory flat to 1 %", "`tests/fuzz/soak.py`", *last_line(results.get("soak"))
    for name in DENOISERS:
        yield (f"Every check passes: the {name} network as shipped",
               f"`python -m others.check_denoiser Miniproject_2.model:Model {name}`",
               *last_line(results.get(f"models {name}")))  # fmt: skip


MISSING = "FAILED: not run", 0.0


def tested(result, tests):
    if result is None:
        return MISSING
    cases = [case for test in tests for case in result["tests"].get(test, [("failed", 0.0)])]
    counts = [f"{number:,} {what}" for test in tests for what, number in result["counts"].get(test, {}).items()]
    passed, failed = ([outcome for outcome, _ in cases].count(which) for which in ("passed", "failed"))
    said = "; ".join(counts) or f"{passed} case{'s' * (passed != 1)}"
    return f"{said}{f'; {failed} FAILED' if failed else ''}", sum(seconds for _, seconds in cases) / 60


def nightly(results):
    wanted = [f"property {node}" for node in properties()]
    found = [results[name] for name in wanted if name in results]
    failed = [result["name"].removeprefix("property ") for result in found if result["status"]]
    examples, minutes = sum(result["examples"] for result in found), sum(result["seconds"] for result in found) / 60
    said = f"{examples:,} examples of {len(found)} properties"
    said += f"; FAILED: {', '.join(failed)}" if failed else ""
    missing = len(wanted) - len(found)
    return said + (f"; FAILED: {missing} properties not run" if missing else ""), minutes


def fuzzed(result):
    if result is None:
        return MISSING
    lines = [line for line in result["lines"] if line.startswith("Done") or "files tried" in line]
    if result["status"] or not lines:
        return f"FAILED: {' '.join(result['lines'][-1:])}", result["seconds"] / 60
    runs = re.search(r"\d+", lines[-1])[0]
    how = "guided by coverage (atheris)" if lines[-1].startswith("Done") else "random changes of right files"
    return f"{int(runs):,} inputs, {how}, nothing found", result["seconds"] / 60


def last_line(result):
    if result is None:
        return MISSING
    said = result["lines"][-1] if not result["status"] else f"FAILED: {'; '.join(result['lines'])}"
    return said, result["seconds"] / 60


def page(results):
    dates = sorted({result["date"] for result in results.values()})
    revisions = ", ".join(sorted({result["revision"] for result in results.values()}))
    cpu, clock = (sum(result[key] for result in results.values()) / 3600 for key in ("cpu", "seconds"))
    about = (
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}, {os.cpu_count()} cores; "
        f"{' to '.join(dates[:1] + dates[1:][-1:])}, revision {revisions}. All of it took {cpu:.1f} hours of one core. "
        f"The minutes are those of the clock, {clock:.1f} hours in all; where the machine did other work at the same "
        "time, they are more than was needed."
    )
    lines = ["# Reliability", "", "Each promise, the test that shows it, and how often it was tried. Written by "
             "`make reliability`; the same tests run with smaller counts in `make test`.", "", about, "",
             "| promise | test | count | minutes |", "|---|---|---|---|"]  # fmt: skip
    for promise, test, said, minutes in rows(results):
        lines.append(f"| {promise} | {test} | {said} | {minutes:.1f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--fresh", action="store_true", help="forget the results of these parts")
    parser.add_argument("--fuzz-minutes", type=float, default=10, help="for all readers together")
    parser.add_argument("--soak-minutes", type=float, default=30)
    parser.add_argument("--examples", type=int, default=10_000, help="for each property")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/reliability.md")
    args = parser.parse_args()
    if unknown := [part for part in args.part if part not in PARTS]:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in parts(args):
        if args.fresh or not Path(f"{result_file(name)}.json").is_file():
            measure(name, args)
    results = {result["name"]: result for result in map(json.loads, map(Path.read_text, RESULTS.glob("*.json")))}
    text = page(results)
    args.out.write_text(text)
    return 1 if "FAILED" in text else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run what `declarations.py` lists and append a JSON line for each run and epoch to logs/EXPERIMENT.jsonl.

    python -m experiments.run [EXPERIMENT ...] [--scale SCALE] [--data FOLDER] [--photos FOLDER] [--jobs 2]

Interrupted, it goes on: a run whose last epoch is logged is not run again, lines of unfinished runs are removed first.
Each run computes on one thread, so the same seed gives the same numbers whatever the number of jobs. See README.md.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import time
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import speed

from . import hooks, trials
from .declarations import EXPERIMENTS, SCALES, declared

HERE = Path(__file__).resolve().parent
IDENTITY = ("experiment", "run", "scale", "config")

# --------------------------------------------------------------------------------------------------------- the logs


def identity(line):
    """What tells one run from another, as text."""
    return json.dumps([line[key] for key in IDENTITY], sort_keys=True)


def lines(path):
    """The whole lines of a log; half-written ones are left out."""
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def finished(path):
    """{identity: [its lines by epoch]} of the runs in a log whose last epoch is there."""
    runs = {}
    for line in lines(path):
        runs.setdefault(identity(line), {})[line["epoch"]] = line
    ordered = {key: [found[epoch] for epoch in sorted(found)] for key, found in runs.items()}
    return {key: found for key, found in ordered.items() if found[-1]["done"]}


def tidy(path):
    """Remove half-written lines and unfinished runs. -> identities of the finished"""
    done = finished(path)
    kept = "".join(json.dumps(line) + "\n" for found in done.values() for line in found)
    if path.exists() and path.read_text() != kept:
        new = path.with_suffix(".new")
        new.write_text(kept)
        new.replace(path)
    return set(done)


def append(path, line):
    """One write of one line, so that several processes may append to one file."""
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(line, allow_nan=False) + "\n").encode())


def held(folder):
    """The only runner that writes to this folder, as long as what is returned is open. Raises BlockingIOError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{folder}: another runner writes here; wait for it, or use --jobs") from error
    return handle


# ---------------------------------------------------------------------------------------------------------- running


def machine():
    """What the figures depend on beside the run."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return {
        "description": speed.machine(),
        "cores": os.cpu_count(),
        "date": date.today().isoformat(),
        "revision": git.stdout.strip() or None,
    }


def perform(job):
    """Run one run, line by line into its log. -> its last line"""
    run, places, log, watching = job
    torch.set_num_threads(1)
    watchers = hooks.watchers(run, **watching)
    config = run["config"]
    common = {**run, "seed": config["seed"], "epochs": config["epochs"]}
    for fields in trials.epochs(run, places):
        line = {**common, "images": 0, **fields, **({"machine": machine()} if fields["epoch"] == 0 else {})}
        append(log, rounded(line))
        for watch in watchers:
            watch(line)
    return line


def rounded(line):
    """Seven digits are more than two machines agree on."""
    return {key: float(f"{value:.7g}") if isinstance(value, float) else value for key, value in line.items()}


def resolve(run, places):
    """The run with its data decided; None if it needs data that is not there."""
    source, usual = run["config"]["data"], "course" if places.course else "generated"
    if source == "course" and not places.course:
        return None
    instead = {"default": usual, "photos": "photos" if places.photos else "generated"}
    changes = {"data": instead.get(source, source), "validation": usual}
    return {**run, "config": {**run["config"], **changes}}


def planned(experiments, scale, places):
    """Every run that is declared and possible."""
    runs = [resolve(run, places) for experiment in experiments for run in declared(experiment, scale)]
    return [run for run in runs if run]


def perform_all(jobs, processes):
    """Yield the last line of each run as it is finished."""
    if processes == 1:
        yield from map(perform, jobs)
        return
    with get_context("spawn").Pool(
        processes, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        yield from pool.imap_unordered(perform, jobs)


def summary(line):
    result = line.get("failure") or (f"{line['psnr_a']:.2f} dB" if line["psnr_a"] is not None else "measured")
    return f"{line['experiment']}, {line['scale']}: {line['run']}: {result}"


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="experiments.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"{', '.join(EXPERIMENTS)}; all of them")
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--data", type=Path, help="folder with train_data.pkl and val_data.pkl")
    parser.add_argument("--photos", type=Path, help="folder of photographs, for clean training images")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of logs/")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "out" / "scenes", help="for images made once")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, each on one thread")
    parser.add_argument("--list", action="store_true", help="show the runs and whether they are done")
    parser.add_argument("--tensorboard", metavar="FOLDER")
    parser.add_argument("--wandb", metavar="PROJECT")
    args = parser.parse_args(argv)
    unknown = set(args.experiments) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"no experiment {', '.join(sorted(unknown))}; there are {', '.join(EXPERIMENTS)}")
    if args.jobs < 1:
        parser.error(f"expected --jobs of at least 1, got {args.jobs}")
    for folder in filter(None, (args.data, args.photos)):
        if not folder.is_dir():
            parser.error(f"{folder}: no such folder")
    return args


def main(argv=None):
    args = arguments(argv)
    watching = {"tensorboard": args.tensorboard, "wandb": args.wandb}
    hooks.require(**watching)
    most = 16 if args.scale == "quick" else None
    places = trials.Places(args.data, args.photos, None if most else args.cache, most)
    logs = args.out / "logs"
    experiments = args.experiments or list(EXPERIMENTS)
    files = [logs / f"{name}.jsonl" for name in experiments]
    runs = planned(experiments, args.scale, places)
    if args.list:
        done = set().union(*map(finished, files))
        for run in runs:
            print("done" if identity(run) in done else "    ", f"{run['experiment']}: {run['run']}")
        return
    logs.mkdir(parents=True, exist_ok=True)
    lock = held(logs)
    try:
        done = set().union(*map(tidy, files))
        left = [run for run in runs if identity(run) not in done]
        print(f"{len(runs)} runs, {len(runs) - len(left)} of them done before", flush=True)
        started = time.perf_counter()
        jobs = [(run, places, logs / f"{run['experiment']}.jsonl", watching) for run in left]
        for number, line in enumerate(perform_all(jobs, args.jobs), 1):
            minutes = (time.perf_counter() - started) / 60
            print(f"{number}/{len(left)}, {minutes:.1f} min: {summary(line)}", flush=True)
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()

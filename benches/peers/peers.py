"""Prepares the peers, measures every engine on every shape, one process each, and writes the table.

    python peers.py prepare|measure|table [--only S1,N2] [--engines qsc,ydf] [--quick] [--retry]

`prepare` carries out what is not there yet; a stage that fails or takes too long leaves STAGE.failed with its reason
and is not tried again without --retry. `measure` starts a new results file. `table` prints the newest one's and, when
nothing was left out, writes it to benches/record.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import table
from catalog import HERE, SHAPES, TREES, WORK, models
from engines import Engine, Stage, engines, qsc_image

RESULTS = WORK / "results"
CORE = max(os.sched_getaffinity(0))
ENVIRONMENT = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "RAYON")} | {"RUST_BACKTRACE": "0"}
MEASUREMENT_SECONDS = 120
"""After which a measurement is ended."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "measure", "table"))
    parser.add_argument("--only", default=",".join(SHAPES), help="shapes, separated by commas")
    parser.add_argument("--engines", default="", help="engines, separated by commas; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repeats")
    parser.add_argument("--retry", action="store_true", help="try again what failed in an earlier run")
    arguments = parser.parse_args()
    shapes = [shape for shape in arguments.only.split(",") if shape]
    wanted = {name for name in arguments.engines.split(",") if name}
    known = {engine.name for engine in engines()}
    if unknown := (set(shapes) - SHAPES.keys()) | (wanted - known):
        parser.error(
            f"not known: {', '.join(sorted(unknown))}; shapes {', '.join(SHAPES)}; engines {', '.join(sorted(known))}"
        )
    pairs = [
        (shape, engine)
        for shape in shapes
        for engine in engines()
        if engine.takes(shape) and (not wanted or engine.name in wanted)
    ]
    if arguments.command == "prepare":
        return prepare(pairs, arguments.retry)
    if arguments.command == "measure":
        return measure(pairs, arguments.quick)
    complete = not (wanted or arguments.quick or set(shapes) != SHAPES.keys())
    return table.write(newest(), HERE.parent / "record" if complete else None)


def newest() -> Path:
    """The results of the last run."""
    files = sorted(RESULTS.glob("*.jsonl"))
    if not files:
        sys.exit(f"there are no results below {RESULTS}: run `peers.py measure` first")
    return files[-1]


def prepare(pairs: list[tuple[str, Engine]], retry: bool) -> int:
    """Carries out the stages that the engines need."""
    # An image is only as good as the compiler that made it.
    for shape in {shape for shape, engine in pairs if engine.name == "qsc"}:
        qsc_image(shape).output.unlink(missing_ok=True)
    stages = {}
    for shape, engine in pairs:
        for stage in engine.stages(shape):
            stages.setdefault(stage.output.parent.name, {})[stage.output] = stage
    # Shapes side by side; the stages of one share what they start from.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda shape: [carry_out(stage, retry) for stage in shape.values()], stages.values()))
    return 0


def failure(stage: Stage) -> Path:
    """Where the reason lies for which a stage has no output."""
    return stage.output.parent / f"{stage.name}.failed"


def carry_out(stage: Stage, retry: bool) -> bool:
    """Whether the stage's output is there, if need be after making it."""
    mark = failure(stage)
    if stage.output.exists():
        return True
    if mark.exists() and not (retry or stage.name == "qsc"):
        return False
    mark.unlink(missing_ok=True)
    place = f"{stage.output.parent.name} {stage.name}"
    if not all(carry_out(need, retry) for need in stage.needs):
        return refuse(mark, place, "what it is made from could not be had")
    print(f"{place} …", file=sys.stderr, flush=True)
    start = time.monotonic()
    stage.output.parent.mkdir(parents=True, exist_ok=True)
    log = stage.output.parent / f"{stage.name}.log"
    with log.open("w") as out:
        try:
            done = subprocess.run(
                ["prlimit", f"--cpu={stage.seconds}", *map(str, stage.command)],
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=6 * stage.seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return refuse(mark, place, f"{error}"[:200])
    # The soft limit's signal, or that of the hard one.
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        return refuse(mark, place, f"not done in {stage.seconds} s of CPU time")
    if done.returncode != 0 or not stage.output.exists():
        lines = log.read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines or [f"exit code {done.returncode}"]
        return refuse(mark, place, errors[0 if "g++" in map(str, stage.command) else -1].strip()[-200:])
    print(f"{place}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return True


def refuse(mark: Path, place: str, reason: str) -> bool:
    """Keeps the reason; false."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(reason + "\n")
    print(f"{place}: NOT OBTAINED: {reason}", file=sys.stderr, flush=True)
    return False


def measure(pairs: list[tuple[str, Engine]], quick: bool) -> int:
    """One process per shape, engine and mode; a line of JSON for each, whatever became of it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (WORK / "answers").mkdir(exist_ok=True)
    now = datetime.now(timezone.utc)
    out = RESULTS / f"{now:%Y-%m-%dT%H%M%S}.jsonl"
    prefix = pinned()
    with out.open("w") as lines:
        conditions = dict(
            table.conditions(), quick=quick, core=CORE, command=shlex.join(prefix), date=f"{now:%Y-%m-%d %H:%M} UTC"
        )
        print(json.dumps(conditions), file=lines, flush=True)
        for shape, engine in pairs:
            for batch in (False, True):
                if not (engine.batch if batch else engine.single):
                    continue
                line = dict(
                    shape=shape, engine=engine.name, variant=engine.variant, batch=batch, load=os.getloadavg()[0]
                )
                try:
                    line |= one(shape, engine, batch, quick, prefix)
                except NotObtained as reason:
                    line |= dict(error=str(reason))
                print(json.dumps(line), file=lines, flush=True)
                print(table.progress(line), file=sys.stderr, flush=True)
    return 0


def pinned() -> list[str]:
    """What measurements are started with: one core, at real-time priority where that is permitted."""
    prefix = shlex.split(os.environ.get("QSC_PEERS_PREFIX", ""))
    real_time = ["chrt", "-f", "50"]
    if shutil.which("chrt") and subprocess.run([*real_time, "true"], check=False, capture_output=True).returncode == 0:
        prefix += real_time
    else:
        print("no real-time priority here: other processes may interrupt the measurements", file=sys.stderr)
    return [*prefix, "taskset", "-c", str(CORE)]


class NotObtained(Exception):
    """Why there is no figure."""


def one(shape: str, engine: Engine, batch: bool, quick: bool, prefix: list[str]) -> dict:
    """Timing and agreement of one engine. Raises `NotObtained`."""
    for stage in engine.stages(shape):
        if not stage.output.exists():
            mark = failure(stage)
            raise NotObtained(
                f"{stage.name}: {mark.read_text().strip()}" if mark.exists() else f"{stage.name} was not prepared"
            )
    tree = SHAPES[shape] in TREES
    expected = np.load(models(shape) / f"{engine.answers}.npy")
    expected = expected.reshape(len(expected), -1)
    answers = WORK / "answers" / f"{shape}-{engine.title}{'-batch' if batch else ''}.f32".replace(" ", "-")
    job = engine.job(shape) | dict(
        rows=models(shape) / "rows.npy",
        outputs=expected.shape[1],
        answers=answers,
        block=64 if tree else 1,
        batch=batch,
        repeats=3 if quick else 5,
        seconds=0.05 if quick else 0.3,
    )
    argument = json.dumps({key: str(value) if isinstance(value, Path) else value for key, value in job.items()})
    try:
        done = subprocess.run(
            [*prefix, *map(str, engine.driver), argument],
            capture_output=True,
            text=True,
            timeout=MEASUREMENT_SECONDS,
            env=os.environ | ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotObtained(str(error)[-200:]) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotObtained(" ".join(lines)[:200])
    timing = json.loads(done.stdout.strip().splitlines()[-1])
    given = np.fromfile(answers, np.float32).reshape(-1, expected.shape[1])
    rows = np.load(models(shape) / "rows.npy")[: len(given)]
    return timing | table.agreement(shape, rows, expected[: len(given)].astype(np.float64), given.astype(np.float64))


if __name__ == "__main__":
    sys.exit(main())

"""What the figures are worth and how they are shown: agreement, conditions, the Markdown table."""

import json
import os
import platform
import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

from catalog import HERE, NETS, ROOT, SHAPES, TREES, WORK
from engines import engines

TREE_ERROR = 1e-3
"""A row is off when a margin or a probability differs by more."""
NET_AGREEMENT = 0.98
"""A quantized network counts as a peer when at least this share of rows lead to the same action."""
DEAD_ZONE = (0.4, 0.6)


def agreement(shape: str, rows: np.ndarray, expected: np.ndarray, given: np.ndarray) -> dict:
    """How answers compare with the training library's; `correct` is whether the engine counts as a peer."""
    error = np.abs(given - expected)
    finite = bool(np.isfinite(given).all())
    common = dict(checked=len(given), max_error=float(error.max()) if finite else None)
    if SHAPES[shape] in TREES:
        off = int((~(error.max(axis=1) <= TREE_ERROR)).sum())
        return common | dict(rows_off=off, correct=off == 0)
    same = float((actions(shape, rows, expected) == actions(shape, rows, given)).mean())
    relative = float(np.sqrt((error**2).mean() / expected.var())) if finite else None
    return common | dict(same_action=same, relative_rms=relative, correct=finite and same >= NET_AGREEMENT)


def actions(shape: str, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """What outputs decide: direction over the horizon, side beyond the dead zone, or most probable class."""
    if shape == "N4":
        return np.sign(outputs[:, -1] - rows[:, -1])
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > DEAD_ZONE[1]).astype(int) - (outputs[:, 0] < DEAD_ZONE[0])
    return outputs.argmax(axis=1)


def conditions() -> dict:
    """Machine and versions."""
    git = lambda *words: subprocess.run(
        ["git", "-C", ROOT, *words], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    numbers = dict(re.findall(r"^(cpu family|model|stepping)\s*: (\d+)$", Path("/proc/cpuinfo").read_text(), re.M))
    dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
    return dict(
        cpu=cpu.group(1).strip() if cpu else platform.machine(),
        cpu_numbers=" ".join(f"{name} {value}" for name, value in numbers.items()),
        cores=os.cpu_count(),
        kernel=platform.release(),
        qsc=git("rev-parse", "HEAD")[:12] + dirty,
        load=os.getloadavg(),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of the engines' packages and crates."""
    lock = tomllib.loads((HERE / "drivers" / "Cargo.lock").read_text())
    found = {
        package["name"]: package["version"] for package in lock["package"] if package["name"] in ("ort", "tract-onnx")
    }
    wanted = {engine.package for engine in engines()} | {
        "nncf",
        "llvmlite",
        "treelite",
        "neuralforecast",
        "transformers",
    }
    for folder in WORK.glob("venv-*/lib/python3*/site-packages"):
        for package in distributions(path=[str(folder)]):
            if package.name in wanted:
                found[package.name] = package.version
    return dict(sorted(found.items()))


def progress(line: dict) -> str:
    """One line for the terminal."""
    what = f"{line['shape']} {line['engine']} {line['variant']}{' batch' if line['batch'] else ''}"
    return (
        f"{what}: NOT OBTAINED: {line['error']}"
        if "error" in line
        else f"{what}: {middle(line):,.0f} ns, {_agreement(line)}"
    )


def middle(line: dict) -> float:
    """Median over the repeats."""
    return float(np.median(line["median"]))


def write(results: Path, record: Path | None) -> int:
    """Prints the table of a results file and, for a complete run, keeps it in `record/CPU/DATE.md`."""
    head, *lines = (json.loads(line) for line in results.read_text().splitlines())
    text = "\n".join([*_head(head, lines), *_summary(lines), *_shapes(lines)]) + "\n"
    print(text)
    (results.with_suffix(".md")).write_text(text)
    if record:
        path = record / folder(head) / f"{head['date'][:10]}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"written to {path.relative_to(ROOT)}")
    return 0


def folder(head: dict) -> str:
    """The CPU as a folder's name: brand, family and model, as virtual machines hide the brand's number."""
    words = f"{head['cpu']} {head['cpu_numbers']}".split(" stepping")[0]
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)", "", words).lower()).strip("-")


def _head(head: dict, lines: list[dict]) -> list[str]:
    loads = [line["load"] for line in lines] or [0.0]
    return [
        f"# Peers on {head['cpu']}, {head['date']}",
        "",
        f"{head['cpu']} ({head['cpu_numbers']}), {head['cores']} cores, Linux {head['kernel']}; QSC {head['qsc']}.",
        f"Each measurement: `{head['command']} …`. Load average {min(loads):.1f} to {max(loads):.1f} over the run"
        f"{'; QUICK run: not to be quoted' if head['quick'] else ''}.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in head["versions"].items()) + ".",
        "",
        "One thread, f32 rows in, answers out. What is measured, and what to read before quoting: `benches/METHOD.md`.",
        "",
    ]


def _best(lines: list[dict], shape: str, batch: bool, ours: bool) -> dict | None:
    """The fastest correct line: of QSC's backends, or of the peers."""
    of_shape = [line for line in lines if line["shape"] == shape and line["batch"] == batch and line.get("correct")]
    return min((line for line in of_shape if (line["engine"] == "qsc") == ours), key=middle, default=None)


def _summary(lines: list[dict]) -> list[str]:
    rows = [
        "## Best correct peer / QSC",
        "",
        "| shape | | best peer | QSC | ratio | target | |",
        "| --- | --- | --- | --- | --: | --: | --- |",
    ]
    for shape in SHAPES.values():
        for batch, target in ((False, shape.target.single), (True, shape.target.batch)):
            if target is None or not any(line["shape"] == shape.name for line in lines):
                continue
            peer, ours = (_best(lines, shape.name, batch, ours) for ours in (False, True))
            mode = "batch 4096" if batch else "single row"
            if peer and ours:
                ratio = middle(peer) / middle(ours)
                verdict = "reached" if ratio >= target else "missed" if ratio >= 1 else "missed: slower than the peer"
                cells = f"{_cell(peer)} | {_cell(ours)} | {ratio:.2f} | {target} | {verdict}"
            else:
                cells = f"{_cell(peer)} | {_cell(ours)} | – | {target} | not measured"
            # A ratio to the best of some peers must not pass for one to the best of all.
            absent = ", ".join(
                _title(line)
                for line in lines
                if line["shape"] == shape.name
                and line["batch"] == batch
                and "error" in line
                and line["engine"] != "qsc"
            )
            rows.append(f"| {shape.name} | {mode} | {cells}{f'; not obtained: {absent}' if absent else ''} |")
    return [*rows, ""]


def _cell(line: dict | None) -> str:
    return f"{_title(line)} {time_of(middle(line))}" if line else "–"


def _title(line: dict) -> str:
    return f"{line['engine']} {line['variant']}".strip()


def time_of(nanoseconds: float) -> str:
    """Three or more digits, in ns below 1 µs, in µs above."""
    if nanoseconds < 1000:
        return f"{nanoseconds:.0f} ns"
    microseconds = nanoseconds / 1000
    return f"{microseconds:.{2 if microseconds < 10 else 1 if microseconds < 100 else 0}f} µs"


def _shapes(lines: list[dict]) -> list[str]:
    text = []
    for shape in (*TREES, *NETS):
        for batch in (False, True):
            chosen = [line for line in lines if line["shape"] == shape.name and line["batch"] == batch]
            if chosen:
                text += _shape(shape, chosen, batch, _best(lines, shape.name, batch, True))
    return text


def _shape(shape, lines: list[dict], batch: bool, ours: dict | None) -> list[str]:
    rows = [
        f"## {shape.name}, {'batch of 4096, per row' if batch else 'single row'}: {shape.title}",
        "",
        "| engine | median | min..max of repeats | p99 | / QSC | against the training library | counts |",
        "| --- | --: | --: | --: | --: | --- | --- |",
    ]
    obtained = sorted((line for line in lines if "error" not in line), key=middle)
    for line in obtained:
        spread = f"{time_of(min(line['median']))}..{time_of(max(line['median']))}"
        p99 = time_of(float(np.median(line["p99"]))) if line["p99"] else "–"
        ratio = f"{middle(line) / middle(ours):.2f}" if ours else "–"
        note = f" ({line['fastest']}, mean)" if line["variant"] == "own timer" else ""
        rows.append(
            f"| {_title(line)}{note} | {time_of(middle(line))} | {spread} | {p99} | {ratio} | {_agreement(line)} "
            f"| {'yes' if line['correct'] else 'no'} |"
        )
    for line in lines:
        if "error" in line:
            reason = line["error"].replace("|", "\\|").replace(str(WORK), "…").replace("\n", " ")
            rows.append(f"| {_title(line)} | not obtained | | | | {reason} | no |")
    return [*rows, ""]


def _agreement(line: dict) -> str:
    largest = "not finite" if line["max_error"] is None else f"{line['max_error']:.1e}"
    if "rows_off" in line:
        return f"max error {largest}, {line['rows_off']} of {line['checked']} rows off"
    relative = "–" if line["relative_rms"] is None else f"{line['relative_rms']:.1e}"
    return f"{line['same_action']:.2%} same action, max difference {largest}, relative rms {relative}"

"""Builds the firmware of every engine and shape, runs each in QEMU, and prints the tables.

    python measure.py WORK QSC [--only T10,N1]

WORK has models/ (trees.py, nets.py) and sources/ (TensorFlow Lite Micro and what it includes). QSC is the `qsc` that
compiles images.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import engines
from engines import HERE, Job, NotObtained, run

QEMU = "qemu-system-arm -cpu cortex-m4 -machine mps2-an386 -nographic -monitor none -serial none"
QEMU = [*QEMU.split(), "-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel"]
INSTRUCTIONS_PER_TICK = 40
"""SysTick counts 25 MHz, and QEMU takes 1 ns for an instruction."""
TREES, NETS = ("T10", "T90", "T99"), ("N1",)
TOLERANCE = 1e-5
"""Largest difference of a probability for which two engines run the same trees."""


@dataclass(frozen=True)
class Firmware:
    """What the linked program takes."""

    text: int
    rodata: int
    ram: int


@dataclass(frozen=True)
class Row:
    """One engine's figures: bytes, instructions per prediction, largest difference from the library's answer."""

    job: Job
    code: int
    model: int
    ram: int
    stack: int
    start_stack: int
    instructions: float
    difference: float
    wrong: int


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("qsc", type=Path)
    parser.add_argument("--only", default=",".join((*TREES, *NETS)), help="shapes, separated by commas")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    print(heading(work), flush=True)
    for shape in arguments.only.split(","):
        folder = work / "models" / shape
        rows, missing = [], []
        harness = sections(build(engines.none(folder), work))
        for name, make in jobs(shape, folder, work, arguments.qsc.resolve()):
            print(f"{shape} {name} …", file=sys.stderr, flush=True)
            try:
                rows.append(measure(make(), harness, work))
            except NotObtained as reason:
                missing.append(f"{name}: {reason}")
        print(table(shape, engines.facts(folder)["title"], rows, missing), flush=True)
    return 0


def heading(work: Path) -> str:
    """When, and with what."""
    tools = [("rustc", "--version"), ("arm-none-eabi-gcc", "--version"), ("qemu-system-arm", "--version")]
    versions = [run(list(tool)).splitlines()[0] for tool in tools]
    pins = sorted(
        {line for name in ("trees", "nets") for line in (HERE / f"requirements-{name}.txt").read_text().split()}
    )
    commits = [
        (path.name, run(["git", "-C", path, "rev-parse", "--short=12", "HEAD"]))
        for path in (work / "sources").iterdir()
    ]
    qsc = run(["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"]).strip()
    lines = [f"# On a Cortex-M4F, {datetime.now(timezone.utc):%Y-%m-%d}", "", f"QSC {qsc}. {'; '.join(versions)}.", ""]
    lines += [
        f"Peers: microflow 0.1.3, {', '.join(pins)};",
        ", ".join(f"{name} {commit.strip()}" for name, commit in sorted(commits)),
    ]
    return "\n".join([*lines[:-1], f"{lines[-1]}. What the columns mean: [README](README.md).", ""])


def jobs(shape: str, folder: Path, work: Path, qsc: Path):
    """Names of a shape's rows and what makes their jobs."""
    for level in ("3", "s"):
        yield f"QSC {level}", lambda level=level: engines.qsc(folder, qsc, level)
    if shape in NETS:
        for level in ("-O2", "-O3"):
            yield f"tflm {level}", lambda level=level: engines.tflm(folder, work / "sources", level)
        for level in ("3", "s"):
            yield f"microflow {level}", lambda level=level: engines.microflow(folder, level)
        return
    for peer in ("m2cgen", "m2cgen-float", "tl2cgen", "tl2cgen-quantized", "emlearn"):
        for level in ("-O2", "-O3", "-Os"):
            yield f"{peer} {level}", lambda peer=peer, level=level: engines.c_trees(folder, peer, level)


def build(job: Job, work: Path) -> Path:
    """The linked firmware. Raises `NotObtained`."""
    target = work / "firmware"
    # Not --locked: what the kernel depends on may have changed since; the peers' own versions stay.
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", target]
    if job.features:
        command += ["--features", job.features]
    run(command, cwd=HERE / "firmware", env=os.environ | job.environment | job.profile)
    return target / "thumbv7em-none-eabihf/release/embedded-bench"


def sections(elf: Path) -> Firmware:
    """Sizes of a linked program; initialized data lies in flash and in RAM."""
    sizes = {}
    for line in run(["arm-none-eabi-size", "-A", elf]).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[0].startswith(".") and parts[1].isdigit():
            sizes[parts[0]] = int(parts[1])
    kinds = (
        ("text", "vector_table", "gnu.sgstubs"),
        ("rodata", "ARM.exidx", "ARM.extab", "data"),
        ("data", "bss", "uninit"),
    )
    text, rodata, ram = (sum(sizes.get(f".{name}", 0) for name in names) for names in kinds)
    return Firmware(text, rodata, ram)


def measure(job: Job, harness: Firmware, work: Path) -> Row:
    """Builds and runs one job. Raises `NotObtained`."""
    elf = build(job, work)
    firmware = sections(elf)
    said: dict[str, list[list[int]]] = {}
    try:
        answer = subprocess.run([*QEMU, elf], capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotObtained("no answer within 600 s") from error
    for line in answer.stdout.splitlines():
        name, *words = line.split()
        said.setdefault(name, []).append([int(word, 16) for word in words])
    if answer.returncode != 0 or "ticks" not in said:
        raise NotObtained(f"the firmware ended with {answer.returncode} after {list(said)}: {answer.stderr[:200]}")
    (clock,) = said["clock"][0]
    if abs(clock - 100_000) > 2:
        raise NotObtained(f"4 000 002 instructions were {clock} ticks instead of 100 000: figures would be wrong")
    folder = work / "models" / job.shape
    expected = np.load(folder / "expected.npy")
    given = np.array(said["out"], np.uint32).view(np.float32).astype(np.float64)
    flash = firmware.text + firmware.rodata - harness.text - harness.rodata
    model = firmware.rodata - harness.rodata if job.model_bytes is None else job.model_bytes
    ticks, idle = said["ticks"][0]
    (stack,), (start,), (state,) = said["stack"][0], said["start"][0], said["state"][0]
    # Of one output the more probable side, of several the largest.
    side = (lambda values: values > 0.5) if expected.shape[1] == 1 else (lambda values: values.argmax(axis=1))
    return Row(
        job=job,
        code=flash - model,
        model=model,
        ram=firmware.ram - harness.ram + state,
        stack=stack,
        start_stack=start,
        instructions=(ticks - idle) * INSTRUCTIONS_PER_TICK / len(given),
        difference=float(np.abs(given - expected).max()),
        wrong=int((side(given) != side(expected)).sum()),
    )


def table(shape: str, title: str, rows: list[Row], missing: list[str]) -> str:
    """Markdown: sizes in bytes."""
    net = shape in NETS
    lines = [f"### {shape}: {title}", ""]
    lines += ["| engine | settings | code | model | flash | static RAM | stack | instructions | largest difference |"]
    lines += ["| --- | --- | --: | --: | --: | --: | --: | --: | --: |"]
    for row in rows:
        mark = "" if net or row.difference <= TOLERANCE else " **other trees**"
        stack = max(row.stack, row.start_stack)
        cells = [row.code, row.model, row.code + row.model, row.ram, stack, round(row.instructions)]
        figures = " | ".join(f"{cell:,}".replace(",", " ") for cell in cells)
        lines.append(f"| {row.job.engine} | {row.job.setting} | {figures} | {row.difference:.1e}{mark} |")
    lines += ["", *(f"Not obtained: {reason}" for reason in missing)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Files of a training run: made aside, then compared with those kept or put in their place."""

import argparse
import filecmp
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np

import gate

VERIFY_ROWS = 256
"""Capture rows kept with the library's answers, for `qsc model verify`."""

TRAINING_ROWS = 2000
"""Training rows kept for `qsc model compile --calibrate`: enough for deciles."""


def run(description: str, build: Callable[[Path], list[Path]]) -> int:
    """The command line of a training script; returns the exit code.

    `build` makes every file under the directory it is given and returns their paths relative to it. It raises
    `gate.Unfit` on a poor result.
    """
    script = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what OUT holds instead of writing it")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory that gets the files")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if not arguments.check:
        out.mkdir(parents=True, exist_ok=True)
    # A result that turns out unfit must not replace half of a good one: build aside, then rename.
    with tempfile.TemporaryDirectory(dir=None if arguments.check else out) as directory:
        fresh = Path(directory)
        try:
            files = build(fresh)
        except gate.Unfit as unfit:
            print(f"{script}: nothing written: {unfit}", file=sys.stderr)
            return 1
        return _compare(script, files, fresh, out) if arguments.check else _install(files, fresh, out)


def write_verify_rows(name: str, rows: np.ndarray, answers: np.ndarray, trained: Path) -> list[Path]:
    """Evenly spaced capture rows and the library's answers for them, both f32."""
    chosen = np.linspace(0, len(rows) - 1, VERIFY_ROWS).astype(np.int64)
    paths = []
    for kind, values in (("rows", rows), ("expected", answers)):
        path = trained / f"{kind}_{name}.npy"
        np.save(path, np.ascontiguousarray(values[chosen]), allow_pickle=False)
        paths.append(path)
    return paths


def write_training_rows(name: str, rows: np.ndarray, trained: Path) -> Path:
    """Evenly spaced rows of `[rows, features] f32`, what the model was trained on."""
    chosen = np.linspace(0, len(rows) - 1, TRAINING_ROWS).astype(np.int64)
    path = trained / f"training_{name}.npy"
    np.save(path, np.ascontiguousarray(rows[chosen]), allow_pickle=False)
    return path


def sha256(path: Path) -> str:
    """Of the file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compare(script: str, files: list[Path], fresh: Path, kept: Path) -> int:
    different = [f for f in files if not (kept / f).is_file() or not filecmp.cmp(fresh / f, kept / f, shallow=False)]
    for file in different:
        print(f"{script}: {kept / file} is missing or differs", file=sys.stderr)
    print(f"\n{len(files) - len(different)} of {len(files)} files are byte-identical")
    return 2 if different else 0


def _install(files: list[Path], fresh: Path, out: Path) -> int:
    print()
    for file in files:
        (out / file).parent.mkdir(exist_ok=True)
        os.replace(fresh / file, out / file)
        print(f"{(out / file).stat().st_size:9}  {file}")
    return 0

"""Compares `qsc predict` with float32 PyTorch on the four network layouts at full size.

    python accuracy.py --qsc PATH --work DIR [--backend NAME] [NET …]

The nets are made in DIR first (seven minutes of one core) and kept there for the next run. Prints the table to stdout;
exit 0 when every bound holds, 2 when one does not, 1 when a net cannot be compiled or run.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1] / "models-bin" / "train"))
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
import transformers

from nets import Net, ensure, nets


@dataclass(frozen=True)
class Bounds:
    """What must hold against float32."""

    agreement: float
    """Share of rows with the same action, at least."""
    probability: float | None = None
    """Largest difference of a probability, at most."""
    relative_rms: float | None = None
    """Root of the mean squared difference over the variance of the float32 outputs, at most."""


BOUNDS = {
    "PatchTSTModel": Bounds(probability=0.014, agreement=0.996),
    "PatchTSTForClassification": Bounds(probability=0.036, agreement=0.994),
    "SimpleNHiTS": Bounds(probability=0.010, agreement=0.996),
    "NHITS": Bounds(relative_rms=0.0024, agreement=1.0),
}

DEAD_ZONE = (0.4, 0.6)


class Failed(Exception):
    """A `qsc` call that did not succeed."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qsc", type=Path, required=True, help="the binary")
    parser.add_argument("--work", type=Path, required=True, help="directory for nets, images and outputs")
    parser.add_argument("--backend", default="auto", help="backend of qsc predict")
    parser.add_argument("net", nargs="*", metavar="NET", help=f"one of {', '.join(BOUNDS)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.net) - BOUNDS.keys():
        parser.error(f"no such net: {', '.join(sorted(unknown))}")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)
    transformers.utils.logging.disable_progress_bar()

    print("| net | rows | max \\|Δp\\| | bound | mean \\|Δp\\| | rel. rms | bound | same action | bound | |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |")
    verdicts = []
    for net in nets():
        if arguments.net and net.name not in arguments.net:
            continue
        out = arguments.work / net.name
        ensure(net, out)
        try:
            answers = _predict(arguments.qsc, arguments.backend, out)
        except Failed as failed:
            print(f"accuracy.py: {net.name}: {failed}", file=sys.stderr)
            return 1
        verdicts.append(_row(net, out, answers))
    return 0 if all(verdicts) else 2


def _predict(qsc: Path, backend: str, out: Path) -> np.ndarray:
    """Compiles the net and answers its rows. Raises `Failed`."""
    image, answers = out / "model.qsm", out / "answers.npy"
    config = out / "config.json"
    told = ["--config", str(config)] if config.is_file() else []
    _run([str(qsc), "model", "compile", str(out / "model.safetensors"), "--output", str(image), *told])
    _run(
        [
            str(qsc),
            "predict",
            str(image),
            "--input",
            str(out / "rows.npy"),
            "--output",
            str(answers),
            "--backend",
            backend,
        ]
    )
    return np.load(answers, allow_pickle=False)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` exits {done.returncode}: {done.stderr.strip()}")


def _row(net: Net, out: Path, answers: np.ndarray) -> bool:
    """Prints the net's line; whether its bounds hold."""
    bounds = BOUNDS[net.name]
    expected, rows = np.load(out / "expected.npy"), np.load(out / "rows.npy")
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        print(f"| {net.name} | {len(rows)} | answers of shape {answers.shape} or not finite | | | | | | | FAIL |")
        return False
    difference = answers.astype(np.float64) - expected
    largest, mean = np.abs(difference).max(), np.abs(difference).mean()
    relative = np.sqrt((difference**2).mean() / expected.astype(np.float64).var())
    same = (_actions(net, expected, rows) == _actions(net, answers, rows)).mean()
    holds = (
        same >= bounds.agreement
        and (bounds.probability is None or largest <= bounds.probability)
        and (bounds.relative_rms is None or relative <= bounds.relative_rms)
    )
    probability = "– | – | –" if bounds.probability is None else f"{largest:.4f} | {bounds.probability} | {mean:.5f}"
    print(
        f"| {net.name} | {len(rows)} | {probability} | {relative:.5f} | {bounds.relative_rms or '–'} "
        f"| {same:.2%} | {bounds.agreement:.1%} | {'ok' if holds else 'FAIL'} |",
        flush=True,
    )
    return bool(holds)


def _actions(net: Net, outputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What the output decides: side beyond the dead zone, most probable class, or direction over the horizon."""
    if net.univariate:
        return np.sign(outputs[:, -1] - rows[:, -1])
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > DEAD_ZONE[1]).astype(int) - (outputs[:, 0] < DEAD_ZONE[0])
    return outputs.argmax(axis=1)


if __name__ == "__main__":
    sys.exit(main())

"""Would the demo pass its gates? The rules of feature-sanity and of the canary gate, over the capture as written.

A check of the training result, in numpy and by the libraries' own predictions; the verdict that counts is the gate's.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from labels import CLASSES

NEWEST = 2_000
"""Events a gate keeps by default."""


class Unfit(Exception):
    """The result would not pass; the message names the check, the value and the bound."""


@dataclass(frozen=True)
class Figures:
    """What the canary gate judges of one model."""

    predictions: int
    actions: dict[str, float]
    """Share of each action, 0..1."""
    mean: float
    std: float
    p10: float
    p90: float


def check_events(ids: list[tuple[int, int]], features: dict[str, np.ndarray]) -> None:
    """feature-sanity over the whole capture. Raises `Unfit`."""
    _require(all(a < b for a, b in zip(ids, ids[1:])), "ids do not increase strictly")
    for name, values in features.items():
        _require(bool(np.isfinite(values).all()), f"{name} has values that are not finite")
        for window in (values, values[-NEWEST:], values[-200:]):
            _require(float(np.std(window)) >= 1e-6, f"{name} is flat over the last {len(window)} events")
    last = np.round(np.stack(list(features.values()), axis=1)[-50:], 4)
    unique = len(np.unique(last, axis=0))
    _require(unique >= 25, f"only {unique} of the last 50 vectors are unique")


def check_predictions(name: str, probabilities: np.ndarray) -> Figures:
    """The canary gate over all predictions and over the newest 2000; figures of all. Raises `Unfit`."""
    _require_varied(name, probabilities)
    for window in (probabilities[-NEWEST:], probabilities):
        figures = _figures(window)
        majority = max(figures.actions.values())
        where = f"{name}, {figures.predictions} predictions"
        _require(figures.predictions >= 200, f"{where}: fewer than 200")
        _require(majority <= 0.70, f"{where}: an action has {majority:.1%}, above 70 %")
        _require(figures.actions["HOLD"] <= 0.85, f"{where}: HOLD has {figures.actions['HOLD']:.1%}, above 85 %")
        _require(figures.std >= 0.05, f"{where}: confidence std {figures.std:.4f} is below 0.05")
        spread = figures.p90 - figures.p10
        _require(spread >= 0.12, f"{where}: confidence P90 − P10 {spread:.4f} is below 0.12")
    return figures


def _require_varied(name: str, probabilities: np.ndarray) -> None:
    """No window of 100 in a row may look degenerate: one action above 95 % with a confidence std below 0.02."""
    actions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    for end in range(100, len(actions) + 1):
        window = slice(end - 100, end)
        majority = Counter(actions[window].tolist()).most_common(1)[0][1]
        degenerate = majority > 95 and float(np.std(confidence[window])) < 0.02
        _require(not degenerate, f"{name}: predictions {window.start}..{window.stop} look degenerate")


def _figures(probabilities: np.ndarray) -> Figures:
    actions = np.bincount(probabilities.argmax(axis=1), minlength=len(CLASSES)) / len(probabilities)
    confidence = probabilities.max(axis=1).astype(np.float64)
    p10, p90 = np.percentile(confidence, [10, 90])
    return Figures(
        predictions=len(probabilities),
        actions=dict(zip(CLASSES, actions.tolist(), strict=True)),
        mean=float(confidence.mean()),
        std=float(confidence.std()),
        p10=float(p10),
        p90=float(p90),
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unfit(otherwise)

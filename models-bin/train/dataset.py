"""Rows for training, hold-out and capture: three stretches of one timeline, in that order.

    warm-up │ training │ gap │ hold-out │ gap │ capture

A gap is as long as the labels look ahead, so no label knows a bar of the next stretch.
"""

from dataclasses import dataclass

import numpy as np

import indicators
from labels import HORIZON, label
from market import SYMBOLS, simulate

SEED = 20_260_302
"""Of the market, the capture and every model."""

WARM_UP = 300
TRAINING = 12_000
HOLD_OUT = 4_000
CAPTURE = 1_000
"""Bars per symbol in each stretch."""

SIGNIFICANT_DIGITS = 6
"""Digits of a feature in an event. The models train on the same rounded values that they are later served."""


@dataclass(frozen=True)
class Rows:
    """Features and labels of the bars of all symbols, symbol after symbol."""

    features: dict[str, np.ndarray]
    """`[rows] f64` each."""
    labels: np.ndarray
    """`[rows] i32`, indices into `CLASSES`."""

    def matrix(self, names: tuple[str, ...]) -> np.ndarray:
        """`[rows, names] f32`, rounded once from f64, as the engine does."""
        return matrix(self.features, names)


@dataclass(frozen=True)
class Dataset:
    """The three stretches; the capture keeps its symbols apart and has no labels."""

    training: Rows
    hold_out: Rows
    capture: dict[str, dict[str, np.ndarray]]
    """Symbol → feature → `[CAPTURE] f64`."""


def matrix(features: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """The named features as `[rows, names] f32` in C order."""
    return np.stack([features[name] for name in names], axis=1).astype(np.float32)


def build(seed: int) -> Dataset:
    """Simulates every symbol from its own child of `seed` and cuts the timeline."""
    train = slice(WARM_UP, WARM_UP + TRAINING)
    hold_out = slice(train.stop + HORIZON, train.stop + HORIZON + HOLD_OUT)
    capture = slice(hold_out.stop + HORIZON, hold_out.stop + HORIZON + CAPTURE)

    parts: dict[str, list[Rows]] = {"train": [], "hold_out": []}
    captured = {}
    for symbol, child in zip(SYMBOLS, np.random.SeedSequence(seed).spawn(len(SYMBOLS)), strict=True):
        bars = simulate(symbol, capture.stop, np.random.default_rng(child))
        features = indicators.compute(bars)
        labels = label(bars.close, features["volatility_20"] / indicators.BPS)
        for name, stretch in (("train", train), ("hold_out", hold_out)):
            parts[name].append(Rows(_cut(features, stretch), labels[stretch]))
        captured[symbol.name] = _cut(features, capture)
    return Dataset(_join(parts["train"]), _join(parts["hold_out"]), captured)


def _cut(features: dict[str, np.ndarray], stretch: slice) -> dict[str, np.ndarray]:
    """One stretch, rounded as in events. Raises `ValueError` if an indicator is not finite there."""
    cut = {name: _round(values[stretch]) for name, values in features.items()}
    for name, values in cut.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite in bars {stretch.start}..{stretch.stop}: lengthen the warm-up")
    return cut


def _round(values: np.ndarray) -> np.ndarray:
    """To `SIGNIFICANT_DIGITS`; −0 becomes 0."""
    return np.array([float(f"{v:.{SIGNIFICANT_DIGITS}g}") + 0.0 for v in values.tolist()])


def _join(parts: list[Rows]) -> Rows:
    return Rows(
        {name: np.concatenate([p.features[name] for p in parts]) for name in parts[0].features},
        np.concatenate([p.labels for p in parts]),
    )

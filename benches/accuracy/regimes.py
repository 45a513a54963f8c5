"""Inputs of the measured nets: windows of a price that switches between three regimes, with scaled features.

The same windows, draw for draw, as those on which the figures of other engines were taken: keep the order of the
random draws.
"""

from dataclasses import dataclass

import numpy as np

TAIL = 24
"""Steps after the window, for forecasts."""

SUBSTEPS = 4
"""Prices drawn inside one step; high and low are the extremes of that path."""

DRIFT = 0.16
"""Mean return of a trending step, in units of its volatility."""


@dataclass(frozen=True)
class Samples:
    """Windows and what belongs to each."""

    features: np.ndarray
    """`[windows, steps, features] f32`, in units of the window's own volatility."""
    regime: np.ndarray
    """`[windows] i64` at the window's end: 0 down, 1 range, 2 up."""
    closes: np.ndarray
    """`[windows, steps] f32`, z-scored over the window."""
    future: np.ndarray
    """`[windows, TAIL] f32`, in the units of `closes`."""


def samples(count: int, steps: int, n_features: int, seed: int) -> Samples:
    """Draws `count` windows."""
    open_, high, low, close, volume, regime, future = _bars(count, steps, np.random.default_rng(seed))
    returns = np.diff(close, axis=1, prepend=open_[:, :1])
    volatility = np.sqrt(_ema(returns * returns, 0.1) + 1e-12)
    unit = volatility.mean(axis=1, keepdims=True)
    rise, fall = _ema(np.maximum(returns, 0.0), 0.1), _ema(np.maximum(-returns, 0.0), 0.1)
    columns = [
        (open_ - close) / unit,
        (high - close) / unit,
        (low - close) / unit,
        returns / unit,
        volume - 8.0,
        np.log(volatility / unit),
        (close - _ema(close, 0.05)) / (4.0 * unit),
        (rise - fall) / (rise + fall + 1e-9),
        (close - close[:, -1:]) / (8.0 * unit),
        (_ema(close, 0.2) - _ema(close, 0.07)) / (2.0 * unit),
        (high - low) / unit,
        _ema(volume - 8.0, 0.2),
        (close - _ema(close, 0.2)) / (2.0 * unit),
        returns / unit * (volume - 8.0),
    ]
    mean, std = close.mean(axis=1, keepdims=True), close.std(axis=1, keepdims=True)
    return Samples(
        features=np.clip(np.stack(columns[:n_features], axis=2).astype(np.float32), -12.0, 12.0),
        regime=regime,
        closes=((close - mean) / std).astype(np.float32),
        future=((future + close[:, -1:] - mean) / std).astype(np.float32),
    )


def _bars(count: int, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Open, high, low, close (log prices) and volume of each step; the regime at the end; the log returns after it."""
    total = (steps + TAIL) * SUBSTEPS
    regime = rng.integers(0, 3, count)
    before = rng.integers(0, 3, count)
    switch = rng.integers(0, steps // 2, count) * SUBSTEPS
    sigma = np.exp(rng.normal(-4.5, 0.4, count))[:, None]
    shocks = rng.normal(0, 1, (count, total)) * 0.06
    log_volatility = np.zeros((count, total))
    for t in range(1, total):
        log_volatility[:, t] = 0.98 * log_volatility[:, t - 1] + shocks[:, t]
    noise = rng.standard_t(5, (count, total)) / np.sqrt(5 / 3)
    scale = sigma * np.exp(log_volatility) / np.sqrt(SUBSTEPS)

    path = np.zeros((count, total))
    price, anchor = np.zeros(count), np.zeros(count)
    for t in range(total):
        now = np.where(t < switch, before, regime)
        drift = np.where(now == 2, DRIFT, np.where(now == 0, -DRIFT, 0.0)) / np.sqrt(SUBSTEPS)
        pull = np.where(now == 1, -0.10 * (price - anchor) / SUBSTEPS, 0.0)
        price = price + drift * scale[:, t] + pull + noise[:, t] * scale[:, t]
        anchor = np.where(now == 1, anchor, price)
        path[:, t] = price
    path = path.reshape(count, steps + TAIL, SUBSTEPS)

    open_ = np.concatenate([np.zeros((count, 1)), path[:, :-1, -1]], axis=1)
    close = path[:, :, -1]
    high, low = np.maximum(path.max(axis=2), open_), np.minimum(path.min(axis=2), open_)
    activity = log_volatility.reshape(count, -1, SUBSTEPS).mean(axis=2)
    volume = np.abs(close - open_) / sigma * 0.6 + activity + rng.normal(0, 0.4, close.shape) + 8
    future = close[:, steps:] - close[:, steps - 1 : steps]
    return *(x[:, :steps] for x in (open_, high, low, close, volume)), regime, future


def _ema(values: np.ndarray, alpha: float) -> np.ndarray:
    smoothed = np.empty_like(values)
    level = values[:, 0]
    for t in range(values.shape[1]):
        level = level + alpha * (values[:, t] - level)
        smoothed[:, t] = level
    return smoothed

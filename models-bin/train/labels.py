"""Three-way labels: the forward return against a band that widens with volatility."""

import numpy as np

CLASSES = ("HOLD", "BUY", "SELL")
"""Class order of both models; a label is an index into it."""

HORIZON = 10
"""Bars the forward return looks ahead."""

BAND = 0.5
"""Half-width of the HOLD band in standard deviations of the forward return of a random walk."""


def label(close: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """Labels `[bars − HORIZON] i32` of the bars whose future is known.

    `volatility` is the standard deviation of one-bar returns known at each bar, as a fraction.
    """
    forward = close[HORIZON:] / close[:-HORIZON] - 1.0
    band = BAND * HORIZON**0.5 * volatility[:-HORIZON]
    return np.where(forward > band, 1, np.where(forward < -band, 2, 0)).astype(np.int32)

"""Technical indicators by their textbook definitions, each at bar t from bars up to and including t.

Prices of different symbols must be comparable, so what the textbook gives in units of price is divided by the
close and given in basis points (`BPS`). The first values of a column are NaN until its look-back is full.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from market import Bars

BPS = 1e4
"""Basis points in one."""


def compute(bars: Bars) -> dict[str, np.ndarray]:
    """Every indicator by name, `[bars] f64` each, in the order in which events list them."""
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    typical = (high + low + close) / 3.0
    true_range = _true_range(high, low, close)
    returns = _change(close, 1)

    # Appel: MACD = EMA12 − EMA26, signal = EMA9 of MACD, histogram = MACD − signal.
    macd = _ema(close, 12) - _ema(close, 26)
    signal = _ema(macd, 9)
    # Bollinger: SMA20 ± 2 population standard deviations.
    middle = _rolling(np.mean, close, 20)
    deviation = _rolling(np.std, close, 20)
    # Lane: %K = place of the close in the 14-bar range, %D = SMA3 of %K.
    highest, lowest = _rolling(np.max, high, 14), _rolling(np.min, low, 14)
    stoch_k = 100.0 * (close - lowest) / (highest - lowest)
    # Wilder: average true range.
    atr = _wilder(true_range, 14)
    plus_di, minus_di, adx = _directional_movement(high, low, true_range, 14)
    vwap = _rolling(np.sum, typical * volume, 60) / _rolling(np.sum, volume, 60)
    volatility = _rolling(np.std, returns, 20)

    return {
        "rsi_14": _rsi(close, 14),
        "macd": BPS * macd / close,
        "macd_signal": BPS * signal / close,
        "macd_hist": BPS * (macd - signal) / close,
        # Distance of the close from its exponential averages.
        "ema_10": BPS * (close / _ema(close, 10) - 1.0),
        "ema_50": BPS * (close / _ema(close, 50) - 1.0),
        "atr_14": BPS * atr / close,
        # Bollinger %b (0 at the lower band, 1 at the upper) and BandWidth.
        "bb_position": (close - middle + 2.0 * deviation) / (4.0 * deviation),
        "bb_width": BPS * 4.0 * deviation / middle,
        "stoch_k": stoch_k,
        "stoch_d": _rolling(np.mean, stoch_k, 3),
        # Momentum over ten bars (close − close₁₀), relative to close₁₀.
        "momentum_10": BPS * _change(close, 10),
        "volatility_20": BPS * volatility,
        "volume_ratio": volume / _rolling(np.mean, volume, 20),
        "obv_slope": _obv_slope(close, volume, 10),
        "vwap_distance": BPS * (close / vwap - 1.0),
        "return_1": BPS * returns,
        "return_5": BPS * _change(close, 5),
        "return_15": BPS * _change(close, 15),
        "high_low_range": BPS * (high - low) / close,
        "adx_14": adx,
        "cci_20": _cci(typical, 20),
        "mfi_14": _mfi(typical, volume, 14),
        # Wilder: +DI − −DI, the signed side of the directional movement.
        "di_spread": plus_di - minus_di,
        # Short over long volatility: above 1 the market is heating up.
        "volatility_factor": volatility / _rolling(np.std, returns, 100),
        "atr_value": atr,
    }


def _pad(values: np.ndarray, length: int) -> np.ndarray:
    """`values` with NaN in front, `length` long."""
    return np.concatenate([np.full(length - len(values), np.nan), values])


def _rolling(reduce, values: np.ndarray, window: int) -> np.ndarray:
    """`reduce` over the last `window` values."""
    return _pad(reduce(sliding_window_view(values, window), axis=-1), len(values))


def _change(values: np.ndarray, lag: int) -> np.ndarray:
    """Relative change against `lag` bars ago."""
    return _pad(values[lag:] / values[:-lag] - 1.0, len(values))


def _smooth(values: np.ndarray, window: int, alpha: float) -> np.ndarray:
    """Exponential smoothing, begun with the plain mean of the first `window` values after the leading NaN."""
    first = int(np.argmax(np.isfinite(values)))
    smoothed = np.full(len(values), np.nan)
    level = float(np.mean(values[first : first + window]))
    smoothed[first + window - 1] = level
    for t in range(first + window, len(values)):
        level += alpha * (float(values[t]) - level)
        smoothed[t] = level
    return smoothed


def _ema(values: np.ndarray, window: int) -> np.ndarray:
    """Exponential moving average, α = 2 / (window + 1)."""
    return _smooth(values, window, 2.0 / (window + 1.0))


def _wilder(values: np.ndarray, window: int) -> np.ndarray:
    """Wilder's moving average, α = 1 / window (New Concepts in Technical Trading Systems, 1978)."""
    return _smooth(values, window, 1.0 / window)


def _rsi(close: np.ndarray, window: int) -> np.ndarray:
    """Wilder's relative strength index: 100 · gains / (gains + losses), averages by Wilder."""
    step = _pad(np.diff(close), len(close))
    gains, losses = _wilder(np.maximum(step, 0.0), window), _wilder(np.maximum(-step, 0.0), window)
    return 100.0 * gains / (gains + losses)


def _true_range(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Wilder's true range: the bar's range, widened to the close before it."""
    return _pad(np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1]), len(close))


def _directional_movement(
    high: np.ndarray, low: np.ndarray, true_range: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wilder's +DI, −DI and ADX; only the larger of the two movements of a bar counts."""
    up, down = _pad(np.diff(high), len(high)), _pad(-np.diff(low), len(low))
    plus = np.where(np.isnan(up), np.nan, np.where((up > down) & (up > 0.0), up, 0.0))
    minus = np.where(np.isnan(down), np.nan, np.where((down > up) & (down > 0.0), down, 0.0))
    atr = _wilder(true_range, window)
    plus_di, minus_di = 100.0 * _wilder(plus, window) / atr, 100.0 * _wilder(minus, window) / atr
    return plus_di, minus_di, _wilder(100.0 * np.abs(plus_di - minus_di) / (plus_di + minus_di), window)


def _cci(typical: np.ndarray, window: int) -> np.ndarray:
    """Lambert's commodity channel index: distance from the mean over 0.015 mean absolute deviations."""
    windows = sliding_window_view(typical, window)
    mean = windows.mean(axis=1)
    deviation = np.abs(windows - mean[:, None]).mean(axis=1)
    return _pad((typical[window - 1 :] - mean) / (0.015 * deviation), len(typical))


def _mfi(typical: np.ndarray, volume: np.ndarray, window: int) -> np.ndarray:
    """Money flow index (Quong and Soudack): share of the flow, typical price · volume, on rising bars."""
    flow, step = (typical * volume)[1:], np.diff(typical)
    positive = _rolling(np.sum, np.where(step > 0.0, flow, 0.0), window)
    negative = _rolling(np.sum, np.where(step < 0.0, flow, 0.0), window)
    return _pad(100.0 * positive / (positive + negative), len(typical))


def _obv_slope(close: np.ndarray, volume: np.ndarray, window: int) -> np.ndarray:
    """Least-squares slope of Granville's on-balance volume, in mean volumes per bar."""
    obv = np.concatenate([[0.0], np.cumsum(np.sign(np.diff(close)) * volume[1:])])
    t = np.arange(window) - (window - 1) / 2.0
    windows = sliding_window_view(obv, window)
    # From the window's own start: the running total would only cost precision.
    slope = ((windows - windows[:, :1]) * t).sum(axis=1) / (t * t).sum()
    return _pad(slope, len(close)) / _rolling(np.mean, volume, window)

"""Synthetic OHLCV market: a Markov chain over regimes drives drift, volatility and mean reversion.

Nothing here comes from an exchange. The symbols lend their names, tick sizes and price levels so that the
numbers look familiar; the returns are drawn from a seeded generator.
"""

from dataclasses import dataclass

import numpy as np

STEPS_PER_BAR = 8
"""Prices drawn inside one bar; high and low are the extremes of that path."""


@dataclass(frozen=True)
class Symbol:
    """Scale of one instrument."""

    name: str
    price: float
    """Price at the first bar."""
    tick: int
    """Ticks per unit of price (100: the price moves in steps of 0.01)."""
    volatility: float
    """Standard deviation of a one-bar return outside the volatile regime."""
    volume: float
    """Mean volume of a calm bar."""


@dataclass(frozen=True)
class Regime:
    """How prices behave while the chain stays in this state."""

    name: str
    drift: float
    """Mean one-bar return, in units of the symbol's volatility."""
    volatility: float
    """Multiplies the symbol's volatility."""
    reversion: float
    """Share of the distance to the anchor (the price at the regime's start) undone per bar."""
    volume: float
    """Multiplies the symbol's mean volume."""
    bars: int
    """Expected duration in bars."""


@dataclass(frozen=True)
class Bars:
    """OHLCV bars of one symbol, oldest first; every array is `[bars] f64`."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray


SYMBOLS = (
    Symbol("BTCUSDT", price=94_200.0, tick=10, volatility=1.0e-4, volume=12.0),
    Symbol("ETHUSDT", price=3_310.0, tick=100, volatility=1.3e-4, volume=180.0),
    Symbol("SOLUSDT", price=188.0, tick=100, volatility=1.8e-4, volume=2_400.0),
)

REGIMES = (
    Regime("trend_up", drift=0.30, volatility=1.0, reversion=0.0, volume=1.2, bars=90),
    Regime("trend_down", drift=-0.30, volatility=1.0, reversion=0.0, volume=1.3, bars=90),
    Regime("range", drift=0.0, volatility=0.8, reversion=0.08, volume=0.8, bars=120),
    Regime("volatile", drift=0.0, volatility=2.2, reversion=0.0, volume=2.0, bars=45),
)


def regimes(bars: int, rng: np.random.Generator) -> np.ndarray:
    """Path of the Markov chain, `[bars] i64` indices into `REGIMES`; a regime that ends passes to any other evenly."""
    path = np.empty(bars, dtype=np.int64)
    state = int(rng.integers(len(REGIMES)))
    for t in range(bars):
        if rng.random() * REGIMES[state].bars < 1.0:
            state = (state + int(rng.integers(1, len(REGIMES)))) % len(REGIMES)
        path[t] = state
    return path


def simulate(symbol: Symbol, bars: int, rng: np.random.Generator) -> Bars:
    """Draws `bars` consecutive bars; prices are whole ticks and volumes have three decimals, as an exchange prints."""
    states = regimes(bars, rng)
    shocks = rng.standard_normal((bars, STEPS_PER_BAR))
    sizes = rng.gamma(shape=4.0, scale=0.25, size=bars)

    price = anchor = symbol.price
    path = np.empty((bars, STEPS_PER_BAR + 1))
    for t in range(bars):
        regime = REGIMES[states[t]]
        if t > 0 and states[t] != states[t - 1]:
            anchor = price
        drift = regime.drift * symbol.volatility / STEPS_PER_BAR
        scale = regime.volatility * symbol.volatility / STEPS_PER_BAR**0.5
        pull = regime.reversion / STEPS_PER_BAR
        path[t, 0] = price
        for step in range(STEPS_PER_BAR):
            price *= 1.0 + drift + scale * float(shocks[t, step]) + pull * (anchor / price - 1.0)
            path[t, step + 1] = price

    # The latent path stays unrounded, or ticks coarser than the drift would swallow it.
    path = np.round(path * symbol.tick) / symbol.tick
    activity = 1.0 + 0.5 * np.abs(path[:, -1] / path[:, 0] - 1.0) / symbol.volatility
    calm = symbol.volume * np.array([r.volume for r in REGIMES])[states]
    return Bars(
        open=path[:, 0],
        high=path.max(axis=1),
        low=path.min(axis=1),
        close=path[:, -1],
        volume=np.round(calm * activity * sizes, 3) + 0.001,
    )

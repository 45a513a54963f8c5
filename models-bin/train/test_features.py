"""python -m unittest: indicators and labels against plain loops, and no look ahead."""

import unittest

import numpy as np

import indicators
from labels import BAND, HORIZON, label
from market import SYMBOLS, Bars, simulate

BARS = 600
N = 14


class Features(unittest.TestCase):
    """Over one simulated series."""

    def setUp(self) -> None:
        self.bars = simulate(SYMBOLS[0], BARS, np.random.default_rng(7))
        self.features = indicators.compute(self.bars)

    def test_a_later_bar_changes_no_earlier_value(self) -> None:
        for end in (301, 450):
            b = self.bars
            known = Bars(b.open[:end], b.high[:end], b.low[:end], b.close[:end], b.volume[:end])
            for name, values in indicators.compute(known).items():
                np.testing.assert_array_equal(values, self.features[name][:end], err_msg=name)

    def test_bars_are_consistent(self) -> None:
        b = self.bars
        self.assertTrue((b.low <= np.minimum(b.open, b.close)).all() and (b.high >= np.maximum(b.open, b.close)).all())
        np.testing.assert_array_equal(b.open[1:], b.close[:-1])
        self.assertTrue((b.low > 0.0).all() and (b.volume > 0.0).all())

    def test_rsi_by_wilders_recipe(self) -> None:
        close = self.bars.close.tolist()
        moves = [b - a for a, b in zip(close, close[1:])]
        gain = sum(max(m, 0.0) for m in moves[:N]) / N
        loss = sum(max(-m, 0.0) for m in moves[:N]) / N
        for m in moves[N:]:
            gain, loss = (gain * (N - 1) + max(m, 0.0)) / N, (loss * (N - 1) + max(-m, 0.0)) / N
        self.assertAlmostEqual(self.features["rsi_14"][-1], 100.0 - 100.0 / (1.0 + gain / loss), places=9)

    def test_adx_by_wilders_sums(self) -> None:
        high, low, close = (x.tolist() for x in (self.bars.high, self.bars.low, self.bars.close))
        plus, minus, span, strengths = [], [], [], []
        for t in range(1, BARS):
            up, down = high[t] - high[t - 1], low[t - 1] - low[t]
            plus.append(up if up > down and up > 0.0 else 0.0)
            minus.append(down if down > up and down > 0.0 else 0.0)
            span.append(max(high[t] - low[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1])))
        sums = [sum(x[:N]) for x in (plus, minus, span)]
        for t in range(N - 1, len(span)):
            if t >= N:
                sums = [s - s / N + x[t] for s, x in zip(sums, (plus, minus, span))]
            plus_di, minus_di = 100.0 * sums[0] / sums[2], 100.0 * sums[1] / sums[2]
            strengths.append(100.0 * abs(plus_di - minus_di) / (plus_di + minus_di))
        adx = sum(strengths[:N]) / N
        for strength in strengths[N:]:
            adx = (adx * (N - 1) + strength) / N
        self.assertAlmostEqual(self.features["adx_14"][-1], adx, places=9)
        self.assertAlmostEqual(self.features["di_spread"][-1], plus_di - minus_di, places=9)
        self.assertAlmostEqual(self.features["atr_value"][-1], sums[2] / N, places=6)

    def test_windows_by_hand(self) -> None:
        b, f = self.bars, self.features
        mean, sd = b.close[-20:].mean(), b.close[-20:].std()
        self.assertAlmostEqual(f["bb_position"][-1], (b.close[-1] - (mean - 2 * sd)) / (4 * sd), places=9)
        low, high = b.low[-N:].min(), b.high[-N:].max()
        self.assertAlmostEqual(f["stoch_k"][-1], 100.0 * (b.close[-1] - low) / (high - low), places=9)
        typical = (b.high + b.low + b.close) / 3.0
        vwap = (typical * b.volume)[-60:].sum() / b.volume[-60:].sum()
        self.assertAlmostEqual(f["vwap_distance"][-1], indicators.BPS * (b.close[-1] / vwap - 1.0), places=6)
        signed = [np.sign(b.close[t] - b.close[t - 1]) * b.volume[t] for t in range(BARS - 9, BARS)]
        slope = np.polyfit(np.arange(10), np.concatenate([[0.0], np.cumsum(signed)]), 1)[0]
        self.assertAlmostEqual(f["obv_slope"][-1], slope / b.volume[-10:].mean(), places=9)

    def test_labels_by_hand(self) -> None:
        volatility = self.features["volatility_20"] / indicators.BPS
        labels = label(self.bars.close, volatility)
        self.assertEqual(len(labels), BARS - HORIZON)
        for t in range(50, BARS - HORIZON):
            forward = self.bars.close[t + HORIZON] / self.bars.close[t] - 1.0
            band = BAND * HORIZON**0.5 * volatility[t]
            self.assertEqual(labels[t], 1 if forward > band else 2 if forward < -band else 0)


if __name__ == "__main__":
    unittest.main()

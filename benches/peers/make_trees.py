"""Trains a tree shape with its own library on synthetic float32 rows and keeps its answers.

    python make_trees.py SHAPE

Writes model.json or model.txt, rows.npy [4096, features], raw.npy (margins) and, last, expected.npy (probabilities).
Rows are correlated normals, of which some columns are heavy-tailed, log-normal or small integers, as indicators are.
"""

import sys

import lightgbm
import numpy as np
import xgboost

from catalog import SHAPES, TREE_ROWS, Trees, models

TRAINING_ROWS = 20_000
THREADS = 1
"""More would sum in another order: another model on another machine."""


def main() -> None:
    """Makes the shape named on the command line."""
    shape = SHAPES[sys.argv[1]]
    out = models(shape.name)
    out.mkdir(parents=True, exist_ok=True)
    x, y, rows = dataset(shape)
    train = train_xgboost if shape.library == "xgboost" else train_lightgbm
    raw, expected = train(shape, x, y, rows)
    for name, array in (("rows", rows), ("raw", raw), ("expected", expected)):
        partial = out / f"{name}.partial.npy"
        np.save(partial, np.ascontiguousarray(array), allow_pickle=False)
        partial.replace(out / f"{name}.npy")


def train_xgboost(shape: Trees, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Saves the model; returns margins and probabilities of `rows`."""
    parameters = dict(
        tree_method="hist",
        max_bin=256,
        max_depth=shape.limit,
        eta=shape.learning_rate,
        seed=shape.seed,
        nthread=THREADS,
    )
    if shape.classes == 2:
        parameters |= dict(objective="binary:logistic")
    else:
        parameters |= dict(objective="multi:softprob", num_class=shape.classes)
    booster = xgboost.train(parameters, xgboost.DMatrix(x, y), shape.rounds)
    booster.save_model(shape.model)
    matrix = xgboost.DMatrix(rows)
    return booster.predict(matrix, output_margin=True), booster.predict(matrix)


def train_lightgbm(shape: Trees, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Saves the model; returns margins and probabilities of `rows`."""
    parameters = dict(
        num_leaves=shape.limit,
        max_bin=255,
        learning_rate=shape.learning_rate,
        seed=shape.seed,
        num_threads=THREADS,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    if shape.classes == 2:
        parameters |= dict(objective="binary")
    else:
        parameters |= dict(objective="multiclass", num_class=shape.classes)
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), shape.rounds)
    booster.save_model(shape.model)
    return booster.predict(rows, raw_score=True), booster.predict(rows)


def dataset(shape: Trees) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, their labels, and the rows to measure on."""
    rng = np.random.default_rng(shape.seed)
    n = TRAINING_ROWS + TREE_ROWS
    x = draw(rng, n, shape.features)
    if shape.classes == 2:
        y = rng.random(n) < 1 / (1 + np.exp(-2.0 * score(x, 0.3)))
    else:
        scores = np.stack([1.8 * score(x, 0.3 + 1.1 * c) for c in range(shape.classes)], 1)
        y = (scores + rng.gumbel(size=scores.shape)).argmax(1)
    if shape.missing:
        x[rng.random(x.shape) < shape.missing] = np.nan
    return x[:TRAINING_ROWS], y[:TRAINING_ROWS].astype(np.int32), x[TRAINING_ROWS:]


def draw(rng: np.random.Generator, n: int, features: int) -> np.ndarray:
    """Rows `[n, features]` driven by four common factors."""
    loads = np.sin(np.outer(np.arange(1, 5), np.arange(features)) * 0.7)
    x = 0.8 * rng.standard_normal((n, features)) + 0.5 * rng.standard_normal((n, 4)) @ loads
    for j in range(features):
        if j % 5 == 1:
            x[:, j] /= np.sqrt(rng.chisquare(2, n) / 2 + 1e-3)
        elif j % 5 == 3:
            x[:, j] = np.exp(1.5 * x[:, j])
        elif j % 10 == 9:
            x[:, j] = np.floor(3 * x[:, j])
    return x.astype(np.float32)


def score(x: np.ndarray, phase: float) -> np.ndarray:
    """A fixed function of every feature and some of their products, of mean 0 and spread 1."""
    features = x.shape[1]
    z = np.tanh(x / (1 + np.median(np.abs(x), axis=0)))
    s = z @ np.cos(1.3 * np.arange(features) + phase)
    for j in range(0, features - 2, 3):
        s += 1.2 * np.sin(3 * z[:, j] + phase) * z[:, j + 1] - (z[:, j + 2] > 0.2) * z[:, j]
    return (s - s.mean()) / s.std()


if __name__ == "__main__":
    main()

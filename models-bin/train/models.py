"""The two classifiers: what each sees, how it is trained, and its own library's answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import lightgbm
import numpy as np
import xgboost

from labels import CLASSES

_COMMON = (
    "rsi_14", "macd_signal", "ema_10", "ema_50", "atr_14", "bb_position", "bb_width", "stoch_k", "momentum_10",
    "volatility_20", "volume_ratio", "obv_slope", "vwap_distance", "return_1", "return_5", "return_15", "adx_14",
    "cci_20", "mfi_14",
)  # fmt: skip

Predict = Callable[[np.ndarray], np.ndarray]
"""`[rows, features] f32` → probabilities `[rows, classes] f32`, by the library."""


@dataclass(frozen=True)
class Model:
    """One classifier of the ensemble."""

    name: str
    file: str
    library: str
    version: str
    features: tuple[str, ...]
    parameters: dict
    rounds: int
    train: Callable[["Model", np.ndarray, np.ndarray, Path], Predict]
    """Trains on `[rows, features] f32` and labels `[rows] i32`, writes the model file, and answers from that file."""


def _train_xgboost(model: Model, rows: np.ndarray, labels: np.ndarray, path: Path) -> Predict:
    names = list(model.features)
    data = xgboost.DMatrix(rows, label=labels, feature_names=names, nthread=1)
    xgboost.train(model.parameters, data, num_boost_round=model.rounds).save_model(path)
    booster = xgboost.Booster({"nthread": 1}, model_file=path)
    return lambda x: booster.predict(xgboost.DMatrix(x, feature_names=names, nthread=1)).astype(np.float32)


def _train_lightgbm(model: Model, rows: np.ndarray, labels: np.ndarray, path: Path) -> Predict:
    data = lightgbm.Dataset(rows, label=labels, feature_name=list(model.features), params=model.parameters)
    lightgbm.train(model.parameters, data, num_boost_round=model.rounds).save_model(path)
    booster = lightgbm.Booster(model_file=path)
    return lambda x: np.asarray(booster.predict(x, num_threads=1)).astype(np.float32)


def models(seed: int) -> tuple[Model, ...]:
    """Both models. One thread each: the order of float sums, and so the file, must not depend on the cores."""
    return (
        Model(
            name="xgb",
            file="xgb.ubj",
            library="xgboost",
            version=xgboost.__version__,
            features=(*_COMMON, "macd", "macd_hist", "stoch_d", "high_low_range"),
            parameters={
                "objective": "multi:softprob",
                "num_class": len(CLASSES),
                "tree_method": "hist",
                "max_depth": 5,
                "eta": 0.08,
                "min_child_weight": 20.0,
                "subsample": 0.8,
                "colsample_bytree": 0.8,
                "seed": seed,
                "nthread": 1,
            },
            rounds=100,
            train=_train_xgboost,
        ),
        Model(
            name="lgbm",
            file="lgbm.txt",
            library="lightgbm",
            version=lightgbm.__version__,
            features=(*_COMMON, "di_spread", "volatility_factor"),
            parameters={
                "objective": "multiclass",
                "num_class": len(CLASSES),
                "num_leaves": 31,
                "learning_rate": 0.05,
                "min_data_in_leaf": 60,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "feature_fraction": 0.8,
                "deterministic": True,
                "force_row_wise": True,
                "seed": seed,
                "num_threads": 1,
                "verbosity": -1,
            },
            rounds=100,
            train=_train_lightgbm,
        ),
    )

"""Trains the two networks of the demo on the market and the stretches that train.py uses.

    python nets_train.py OUT            writes OUT/trained
    python nets_train.py --check OUT    trains anew elsewhere and compares byte for byte with OUT; exit 2 if they differ
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

import artifacts
import dataset
import gate
from dataset import SEED
from labels import CLASSES
from market import SYMBOLS
from nets_models import WINDOW_EPSILON, PatchTSTModel, SimpleNHiTS, scale

BATCH = 256
WARM_UP_STEPS = 50
LEARNING_RATE = 3e-4

DEAD_ZONE = (0.4, 0.6)
"""A probability of going up between these decides nothing."""

_TREND = ("rsi_14", "ema_10", "ema_50", "bb_position", "momentum_10", "vwap_distance", "return_1", "di_spread")


@dataclass(frozen=True)
class Windows:
    """Windows of one stretch, cut from its rows when they are asked for; none spans two symbols."""

    rows: torch.Tensor
    """`[symbols · bars, features] f32`."""
    last: torch.Tensor
    """`[windows] i64`: the row of each window's last bar; bar by bar, the symbols of a bar in turn, as events come."""
    seq_len: int

    def at(self, windows: torch.Tensor) -> torch.Tensor:
        """`[len(windows), seq_len, features] f32`."""
        return self.rows[self.last[windows][:, None] + torch.arange(1 - self.seq_len, 1)]

    @staticmethod
    def of(matrix: np.ndarray, seq_len: int) -> "Windows":
        """All windows of `[symbols · bars, features] f32`, symbol after symbol."""
        bars = len(matrix) // len(SYMBOLS)
        last = torch.arange(seq_len - 1, bars)[:, None] + bars * torch.arange(len(SYMBOLS))
        return Windows(torch.from_numpy(matrix), last.flatten(), seq_len)


@dataclass(frozen=True)
class Net:
    """One network of the ensemble."""

    name: str
    features: tuple[str, ...]
    seq_len: int
    config: dict
    """What `qsc model compile` is told besides features and scaling."""
    preprocess: Callable[[np.ndarray], dict]
    """Training rows `[rows, features] f32` → the config's `preprocess`."""
    make: Callable[[], nn.Module]
    steps: int
    weight_decay: float
    usable: Callable[[np.ndarray], np.ndarray]
    """Labels `[windows] i32` → which windows it learns from, `[windows] bool`."""
    target: Callable[[torch.Tensor], torch.Tensor]
    """Labels → what the loss compares logits with."""
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Logits `[rows, n_raw]` and targets → mean loss."""
    activation: Callable[[torch.Tensor], torch.Tensor]
    """Logits → probabilities `[rows, n_outputs]`."""
    votes: Callable[[np.ndarray], np.ndarray]
    """Probabilities → `[rows, CLASSES]`, a row of NaN where the engine would call the model inactive."""


def nets() -> tuple[Net, ...]:
    """Both networks."""
    patchtst = dict(seq_len=128, n_features=len(_TREND), patch_len=16, d_model=128, n_heads=4, n_layers=3, ffn_dim=512)
    context = (*_TREND, "return_5", "volatility_20", "volatility_factor", "volume_ratio", "obv_slope", "adx_14")
    hidden = (256, 128, 64)
    sides = ("SELL", "HOLD", "BUY")
    side_of = torch.tensor([sides.index(name) for name in CLASSES])
    return (
        Net(
            name="patchtst",
            features=_TREND,
            seq_len=patchtst["seq_len"],
            config={"architecture": "PatchTSTModel", **patchtst},
            preprocess=lambda rows: {"kind": "window_min_max", "epsilon": WINDOW_EPSILON},
            make=lambda: PatchTSTModel(**patchtst),
            steps=360,
            weight_decay=0.05,
            # Its one output is the probability of going up rather than down; HOLD says nothing about that.
            usable=lambda labels: labels != CLASSES.index("HOLD"),
            target=lambda labels: (labels == CLASSES.index("BUY")).float(),
            loss=lambda logits, up: functional.binary_cross_entropy_with_logits(logits[:, 0], up),
            activation=torch.sigmoid,
            votes=_votes_of_one_probability,
        ),
        Net(
            name="nhits",
            features=context,
            seq_len=120,
            config={
                "architecture": "SimpleNHiTS",
                "seq_len": 120,
                "n_features": len(context),
                "hidden_dims": list(hidden),
                "classes": list(sides),
            },
            preprocess=_z_score,
            make=lambda: SimpleNHiTS(120, len(context), hidden, len(sides)),
            steps=160,
            weight_decay=0.1,
            usable=lambda labels: np.ones(len(labels), dtype=bool),
            target=lambda labels: side_of[labels],
            loss=functional.cross_entropy,
            activation=lambda logits: torch.softmax(logits, dim=1),
            votes=lambda probabilities: probabilities[:, side_of.numpy()],
        ),
    )


def _z_score(rows: np.ndarray) -> dict:
    """Mean and population standard deviation of each feature, as the shortest decimals of their f32."""
    mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    decimals = lambda values: [float(str(v)) for v in values.astype(np.float32)]
    return {"kind": "z_score", "epsilon": WINDOW_EPSILON, "mean": decimals(mean), "std": decimals(std)}


def _votes_of_one_probability(probabilities: np.ndarray) -> np.ndarray:
    up = probabilities[:, 0]
    votes = np.stack([np.zeros_like(up), up, 1.0 - up], axis=1)
    votes[(up >= DEAD_ZONE[0]) & (up <= DEAD_ZONE[1])] = np.nan
    return votes[:, [("HOLD", "BUY", "SELL").index(name) for name in CLASSES]]


def main() -> int:
    """Runs the command line; returns the exit code."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # The fused attention of evaluation mode rounds otherwise than the plain one that training uses.
    torch.backends.mha.set_fastpath_enabled(False)
    return artifacts.run(__doc__, build)


def build(out: Path) -> list[Path]:
    """Makes every file under `out` and returns their paths relative to it. Raises `gate.Unfit` on a poor result."""
    trained = out / "trained"
    trained.mkdir(parents=True)
    data = dataset.build(SEED)
    files, described = [], {}
    for net in nets():
        model, config = _train(net, data.training)
        weights, settings = trained / f"{net.name}.safetensors", trained / f"{net.name}.json"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights, metadata={"format": "pt"})
        _write_json(settings, config)

        # The answers come from the files, as a reader will find them.
        model.load_state_dict(load_file(weights))
        config = json.loads(settings.read_text(encoding="ascii"))
        predict = lambda windows: _predict(net, model, config, windows)
        served = np.concatenate([dataset.matrix(data.capture[s.name], net.features) for s in SYMBOLS])
        windows = Windows.of(served, net.seq_len)
        answers = predict(windows)
        figures = _check(net, answers)
        rows = windows.at(torch.arange(len(windows.last))).numpy()
        files += [weights, settings, *artifacts.write_verify_rows(net.name, rows, answers, trained)]
        files.append(artifacts.write_training_rows(net.name, data.training.matrix(net.features), trained))
        described[net.name] = _describe(net, model, weights, predict, data.hold_out, len(answers), figures)
    path = trained / "metadata_nets.json"
    _write_json(
        path,
        {
            "synthetic": True,
            "note": "Trained on a simulated market. No figure here says anything about real markets.",
            "seed": SEED,
            "models": described,
        },
    )
    _print(described)
    return [f.relative_to(out) for f in [*files, path]]


def _train(net: Net, training: dataset.Rows) -> tuple[nn.Module, dict]:
    """The trained model in evaluation mode, and its config."""
    matrix = training.matrix(net.features)
    preprocess = net.preprocess(matrix)
    config = {**net.config, "feature_names": list(net.features), "preprocess": preprocess}
    windows = Windows.of(matrix, net.seq_len)
    labels = training.labels[windows.last.numpy()]
    targets = net.target(torch.from_numpy(labels))
    usable = torch.from_numpy(np.flatnonzero(net.usable(labels)))

    torch.manual_seed(SEED)
    model = net.make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=net.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1.0 + math.cos(math.pi * step / net.steps)),
    )
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(net.steps):
        batch = usable[torch.randint(len(usable), (BATCH,), generator=generator)]
        optimizer.zero_grad()
        net.loss(model(scale(windows.at(batch), preprocess)), targets[batch]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return model.eval(), config


def _predict(net: Net, model: nn.Module, config: dict, windows: Windows) -> np.ndarray:
    """Probabilities `[windows, n_outputs] f32` of all windows."""
    with torch.no_grad():
        batches = torch.arange(len(windows.last)).split(BATCH)
        return torch.cat([net.activation(model(scale(windows.at(b), config["preprocess"]))) for b in batches]).numpy()


def _check(net: Net, answers: np.ndarray) -> gate.Figures:
    """The canary gate over the active answers: of all events, and of the newest ones it keeps. Raises `gate.Unfit`."""
    votes = net.votes(answers)
    active = lambda rows: rows[np.isfinite(rows).all(axis=1)]
    gate.check_predictions(net.name, active(votes[-gate.NEWEST :]))
    return gate.check_predictions(net.name, active(votes))


def _describe(
    net: Net,
    model: nn.Module,
    weights: Path,
    predict: Callable[[Windows], np.ndarray],
    hold_out: dataset.Rows,
    answers: int,
    figures: gate.Figures,
) -> dict:
    windows = Windows.of(hold_out.matrix(net.features), net.seq_len)
    labels = hold_out.labels[windows.last.numpy()]
    usable = net.usable(labels)
    probabilities = torch.from_numpy(predict(windows)[usable]).double()
    targets = net.target(torch.from_numpy(labels[usable])).long()
    if probabilities.shape[1] == 1:
        probabilities = torch.cat([1.0 - probabilities, probabilities], dim=1)
    return {
        "file": weights.name,
        "sha256": artifacts.sha256(weights),
        "library": "torch",
        "version": torch.__version__.split("+")[0],
        "safetensors": safetensors.__version__,
        "features": list(net.features),
        "window": net.seq_len,
        "weights": sum(p.numel() for p in model.parameters()),
        "parameters": {
            "optimizer": "AdamW",
            "steps": net.steps,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "weight_decay": net.weight_decay,
            "seed": SEED,
        },
        "hold_out_accuracy": round(float((probabilities.argmax(dim=1) == targets).double().mean()), 4),
        "hold_out_log_loss": round(float(functional.nll_loss(probabilities.log(), targets)), 4),
        "capture": {
            "windows": answers,
            "predictions": figures.predictions,
            "actions": {action: round(share, 4) for action, share in figures.actions.items()},
            "confidence": {k: round(getattr(figures, k), 4) for k in ("mean", "std", "p10", "p90")},
        },
    }


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="ascii", newline="\n")


def _print(described: dict) -> None:
    print("SYNTHETIC market; active answers over the capture:")
    heads = ("windows", "active", *CLASSES, "mean", "std", "p10", "p90")
    print(f"{'model':9}{'accuracy':>9}{'log loss':>9}" + "".join(f"{head:>8}" for head in heads))
    for name, model in described.items():
        captured = model["capture"]
        row = f"{name:9}{model['hold_out_accuracy']:9.4f}{model['hold_out_log_loss']:9.4f}"
        row += f"{captured['windows']:8}{captured['predictions']:8}"
        row += "".join(f"{captured['actions'][c]:8.1%}" for c in CLASSES)
        print(row + "".join(f"{captured['confidence'][k]:8.4f}" for k in ("mean", "std", "p10", "p90")))


if __name__ == "__main__":
    sys.exit(main())

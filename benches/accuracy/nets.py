"""The measured nets at full size, by their own libraries: briefly trained, saved with inputs and float32 outputs."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from neuralforecast.models import NHITS
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import PatchTSTConfig, PatchTSTForClassification

from nets_models import PatchTSTModel, SimpleNHiTS
from regimes import Samples, samples

SEED = 20_240
TRAINING, MEASURED = 16_384, 512
"""Windows to learn from and windows to measure on, drawn apart."""

WARM_UP_STEPS = 30

Loss = Callable[[torch.Tensor, Samples, torch.Tensor], torch.Tensor]
"""Raw output of a batch, all samples, and the batch's indices → mean loss."""


@dataclass(frozen=True)
class Net:
    """One net of the table."""

    name: str
    steps: int
    batch: int
    learning_rate: float
    window: tuple[int, int]
    """Steps and features of its samples."""
    univariate: bool
    """It reads closes `[rows, steps]` instead of features `[rows, steps, features]`."""
    make: Callable[[], nn.Module]
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    """Rows → raw output `[rows, n_raw]`."""
    loss: Loss
    output: Callable[[torch.Tensor], torch.Tensor]
    """Raw output → what `qsc predict` answers with."""
    save: Callable[[nn.Module, Path], None]
    """Writes `model.safetensors` and, where the layout needs one, `config.json`."""

    def rows(self, drawn: Samples) -> np.ndarray:
        """What the net is given of the samples."""
        return drawn.closes if self.univariate else drawn.features


def nets() -> tuple[Net, ...]:
    """The four layouts."""
    patchtst = dict(seq_len=128, n_features=8, patch_len=16, d_model=128, n_heads=4, n_layers=3, ffn_dim=512)
    hugging_face = dict(
        num_input_channels=8,
        context_length=128,
        patch_length=16,
        patch_stride=16,
        d_model=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_dim=512,
        num_targets=3,
    )
    hidden = (256, 128, 64)
    simple = dict(seq_len=120, n_features=14, hidden_dims=list(hidden), classes=["SELL", "HOLD", "BUY"])
    softmax = lambda raw: torch.softmax(raw, dim=1)
    return (
        Net(
            name="PatchTSTModel",
            steps=350,
            batch=256,
            learning_rate=1e-3,
            window=(128, 8),
            univariate=False,
            make=lambda: PatchTSTModel(**patchtst),
            forward=lambda model, rows: model(rows),
            loss=lambda raw, drawn, i: functional.binary_cross_entropy_with_logits(
                raw[:, 0], torch.from_numpy(drawn.regime)[i].float() / 2
            ),
            output=torch.sigmoid,
            save=_save_ours({"architecture": "PatchTSTModel", **patchtst}),
        ),
        Net(
            name="PatchTSTForClassification",
            steps=250,
            batch=64,
            learning_rate=1e-3,
            window=(128, 8),
            univariate=False,
            make=lambda: PatchTSTForClassification(PatchTSTConfig(**hugging_face)),
            forward=lambda model, rows: model(past_values=rows).prediction_logits,
            loss=_regime_loss,
            output=softmax,
            save=lambda model, out: model.save_pretrained(out),
        ),
        Net(
            name="SimpleNHiTS",
            steps=150,
            batch=256,
            learning_rate=1e-3,
            window=(120, 14),
            univariate=False,
            make=lambda: SimpleNHiTS(simple["seq_len"], simple["n_features"], hidden, len(simple["classes"])),
            forward=lambda model, rows: model(rows),
            loss=_regime_loss,
            output=softmax,
            save=_save_ours({"architecture": "SimpleNHiTS", **simple}),
        ),
        Net(
            name="NHITS",
            steps=250,
            batch=256,
            learning_rate=5e-4,
            window=(120, 14),
            univariate=True,
            make=lambda: NHITS(h=24, input_size=120, mlp_units=[[512, 512]] * 3, random_seed=SEED, logger=False),
            forward=_forecast,
            loss=lambda raw, drawn, i: functional.l1_loss(raw, torch.from_numpy(drawn.future)[i]),
            output=lambda raw: raw,
            save=lambda model, out: model.save(str(out / "model.safetensors")),
        ),
    )


def ensure(net: Net, out: Path) -> None:
    """Makes the net and its files in `out`, unless a run before this one finished them."""
    if (out / "expected.npy").is_file():
        return
    out.mkdir(parents=True, exist_ok=True)
    model = _trained(net)
    net.save(model, out)
    rows = net.rows(samples(MEASURED, *net.window, seed=99))
    with torch.no_grad():
        expected = net.output(net.forward(model, torch.from_numpy(rows))).numpy()
    np.save(out / "rows.npy", np.ascontiguousarray(rows), allow_pickle=False)
    partial = out / "expected.partial.npy"
    np.save(partial, np.ascontiguousarray(expected), allow_pickle=False)
    partial.replace(out / "expected.npy")


def _trained(net: Net) -> nn.Module:
    drawn = samples(TRAINING, *net.window, seed=7)
    rows = torch.from_numpy(net.rows(drawn))
    torch.manual_seed(SEED)
    model = net.make()
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], net.learning_rate, weight_decay=1e-2
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1.0 + math.cos(math.pi * step / net.steps)),
    )
    generator = torch.Generator().manual_seed(1)
    for step in range(net.steps):
        batch = torch.randint(len(rows), (net.batch,), generator=generator)
        optimizer.zero_grad()
        loss = net.loss(net.forward(model, rows[batch]), drawn, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if (step + 1) % 50 == 0:
            print(
                f"{net.name}: step {step + 1} of {net.steps}, loss {float(loss.detach()):.4f}",
                file=sys.stderr,
                flush=True,
            )
    return model.eval()


def _regime_loss(raw: torch.Tensor, drawn: Samples, batch: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(raw, torch.from_numpy(drawn.regime)[batch], label_smoothing=0.02)


def _forecast(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Forecast `[rows, h]` of fully observed windows without exogenous inputs."""
    batch = {"insample_y": rows[:, :, None], "insample_mask": torch.ones(1, rows.shape[1], 1)}
    return model({**batch, "futr_exog": None, "hist_exog": None, "stat_exog": None})[:, :, 0]


def _save_ours(config: dict) -> Callable[[nn.Module, Path], None]:
    def save(model: nn.Module, out: Path) -> None:
        save_file(
            {k: v.contiguous() for k, v in model.state_dict().items()}, out / "model.safetensors", {"format": "pt"}
        )
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="ascii")

    return save

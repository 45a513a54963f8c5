"""The measured shapes, the engines' versions and where everything lies below the one work folder.

models/SHAPE/   what the training library saved: the model, rows.npy, expected.npy (and raw.npy for trees)
build/SHAPE/    what an engine executes: converted models, shared libraries; ENGINE.failed says why there is none
results/        one JSON line per measurement
"""

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = Path(os.environ.get("QSC_PEERS_DIR") or ROOT / "target" / "peers").resolve()
TREE_ROWS = 4096


@dataclass(frozen=True)
class Target:
    """Best peer's median over ours, at least."""

    single: float
    batch: float | None = None


@dataclass(frozen=True)
class Trees:
    """A gradient-boosted model of `rounds` × (1 or `classes`) trees."""

    name: str
    library: str
    seed: int
    features: int
    classes: int
    rounds: int
    limit: int
    """Greatest depth (xgboost) or number of leaves (lightgbm) of a tree."""
    learning_rate: float
    target: Target
    missing: float = 0.0
    """Share of values that are NaN."""

    @property
    def outputs(self) -> int:
        """Margins of one row."""
        return 1 if self.classes == 2 else self.classes

    @property
    def model(self) -> Path:
        """The file that every engine starts from."""
        return models(self.name) / ("model.json" if self.library == "xgboost" else "model.txt")

    @property
    def title(self) -> str:
        """One line for the table."""
        size = "depth" if self.library == "xgboost" else "leaves"
        missing = f", {self.missing:.0%} NaN" if self.missing else ""
        return (
            f"{self.library}, {self.classes} classes, {self.rounds * self.outputs} trees, {size} ≤ {self.limit}, "
            f"{self.features} features{missing}"
        )


@dataclass(frozen=True)
class Net:
    """A network of `benches/accuracy/nets.py`."""

    name: str
    layout: str
    title: str
    target: Target

    @property
    def model(self) -> Path:
        """The file that every engine starts from."""
        return models(self.name) / "model.safetensors"


TREES = (
    Trees("S1", "xgboost", 101, 23, 3, 100, 6, 0.1, Target(6, 5)),
    Trees("S2", "xgboost", 102, 32, 2, 500, 6, 0.05, Target(8, 7)),
    Trees("S3", "lightgbm", 103, 32, 2, 500, 31, 0.05, Target(3.5, 4)),
    Trees("S4", "lightgbm", 104, 50, 3, 200, 63, 0.05, Target(4.5, 5), missing=0.02),
    Trees("S5", "xgboost", 105, 64, 2, 2000, 8, 0.02, Target(15, 3)),
)
NETS = (
    Net("N1", "PatchTSTModel", "PatchTST, [128, 8], 4.9 M MAC", Target(2.4)),
    Net("N2", "PatchTSTForClassification", "Hugging Face PatchTST, [128, 8], 38 M MAC", Target(2.1)),
    Net("N3", "SimpleNHiTS", "SimpleNHiTS, [120, 14], 0.47 M MAC", Target(3)),
    Net("N4", "NHITS", "neuralforecast NHITS, [120], horizon 24, 2.7 M MAC", Target(2.2)),
)
SHAPES = {shape.name: shape for shape in (*TREES, *NETS)}


def models(shape: str) -> Path:
    """Folder of a shape's trained model, rows and answers."""
    return WORK / "models" / shape


def build(shape: str) -> Path:
    """Folder of what the engines execute; made if absent."""
    path = WORK / "build" / shape
    path.mkdir(parents=True, exist_ok=True)
    return path

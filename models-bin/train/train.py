"""Trains the two models of the demo on a synthetic market and records the capture they are replayed on.

    python train.py OUT            writes OUT/trained and OUT/capture
    python train.py --check OUT    trains anew elsewhere and compares byte for byte with OUT; exit 2 on a difference
"""

import json
import sys
from pathlib import Path

import numpy as np

import artifacts
import capture
import dataset
import gate
from dataset import SEED
from labels import BAND, CLASSES, HORIZON
from market import SYMBOLS
from models import Model, Predict, models


def main() -> int:
    """Runs the command line; returns the exit code."""
    return artifacts.run(__doc__, build)


def build(out: Path) -> list[Path]:
    """Makes every file under `out` and returns their paths relative to it. Raises `gate.Unfit` on a poor result."""
    trained = out / "trained"
    trained.mkdir(parents=True, exist_ok=True)
    events = out / "capture" / "features.jsonl"
    events.parent.mkdir(parents=True, exist_ok=True)

    data = dataset.build(SEED)
    count = capture.write(data.capture, SEED, events)
    ids, served = capture.read(events)
    gate.check_events(ids, served)

    files = [events]
    described, answers = {}, {}
    for model in models(SEED):
        path = trained / model.file
        training = data.training.matrix(model.features)
        predict = model.train(model, training, data.training.labels, path)
        rows = dataset.matrix(served, model.features)
        answers[model.name] = predict(rows)
        figures = gate.check_predictions(model.name, answers[model.name])
        files += [path, *artifacts.write_verify_rows(model.name, rows, answers[model.name], trained)]
        files.append(artifacts.write_training_rows(model.name, training, trained))
        described[model.name] = _describe(model, path, predict, data.hold_out, figures)

    sides = [p.argmax(axis=1) for p in answers.values()]
    metadata = {
        "synthetic": True,
        "note": "Trained on a simulated market. No figure here says anything about real markets.",
        "seed": SEED,
        "symbols": [s.name for s in SYMBOLS],
        "classes": list(CLASSES),
        "label": {"horizon_bars": HORIZON, "band_volatilities": BAND},
        "rows": {"training": len(data.training.labels), "hold_out": len(data.hold_out.labels)},
        "class_balance": {"training": _balance(data.training.labels), "hold_out": _balance(data.hold_out.labels)},
        "models": described,
        "capture": {
            "file": events.name,
            "sha256": artifacts.sha256(events),
            "events": count,
            "features": list(served),
            "action_agreement": round(float(np.mean(sides[0] == sides[1])), 4),
        },
    }
    path = trained / "metadata.json"
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="ascii", newline="\n")
    files.append(path)
    _print(metadata)
    return [f.relative_to(out) for f in files]


def _describe(model: Model, path: Path, predict: Predict, hold_out: dataset.Rows, figures: gate.Figures) -> dict:
    probabilities = predict(hold_out.matrix(model.features)).astype(np.float64)
    hit = probabilities.argmax(axis=1) == hold_out.labels
    likelihood = probabilities[np.arange(len(hit)), hold_out.labels]
    return {
        "file": model.file,
        "sha256": artifacts.sha256(path),
        "library": model.library,
        "version": model.version,
        "features": list(model.features),
        "rounds": model.rounds,
        "parameters": model.parameters,
        "hold_out_accuracy": round(float(hit.mean()), 4),
        "hold_out_log_loss": round(float(-np.log(likelihood).mean()), 4),
        "capture": {
            "predictions": figures.predictions,
            "actions": {action: round(share, 4) for action, share in figures.actions.items()},
            "confidence": {k: round(getattr(figures, k), 4) for k in ("mean", "std", "p10", "p90")},
        },
    }


def _balance(labels: np.ndarray) -> dict[str, float]:
    return {c: round(float(np.mean(labels == i)), 4) for i, c in enumerate(CLASSES)}


def _print(metadata: dict) -> None:
    print("SYNTHETIC market; share of each class:")
    for stretch, balance in metadata["class_balance"].items():
        shares = "  ".join(f"{c} {share:.1%}" for c, share in balance.items())
        print(f"  {stretch:9} {metadata['rows'][stretch]:6} rows  {shares}")
    heads = (*CLASSES, "mean", "std", "p10", "p90", "range")
    print(f"\n{'model':6}{'accuracy':>9}{'log loss':>9}" + "".join(f"{head:>8}" for head in heads))
    for name, model in metadata["models"].items():
        actions, confidence = model["capture"]["actions"], model["capture"]["confidence"]
        row = f"{name:6}{model['hold_out_accuracy']:9.4f}{model['hold_out_log_loss']:9.4f}"
        row += "".join(f"{actions[c]:8.1%}" for c in CLASSES)
        row += "".join(f"{confidence[k]:8.4f}" for k in ("mean", "std", "p10", "p90"))
        print(row + f"{confidence['p90'] - confidence['p10']:8.4f}")
    captured = metadata["capture"]
    print(f"\n{captured['events']} events; the models agree on {captured['action_agreement']:.1%}")


if __name__ == "__main__":
    sys.exit(main())

"""Trains the tree models with XGBoost and has its peers write their C.

    python trees.py OUT

OUT/SHAPE/: model.json, rows.bin (f32 rows), expected.npy (probabilities in double precision from the library's
margins), shape.json, and one folder per peer with model.c, whose bytes are the model.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xgboost

ROWS, TRAINING_ROWS = 128, 20_000
SHAPES = {
    "T10": dict(rounds=10, depth=3, features=8, classes=2, seed=13),
    "T90": dict(rounds=30, depth=4, features=20, classes=3, seed=12),
    "T99": dict(rounds=33, depth=6, features=20, classes=3, seed=11),
}


def main() -> None:
    """Makes every shape below the folder named on the command line."""
    for name, shape in SHAPES.items():
        out = Path(sys.argv[1]) / name
        out.mkdir(parents=True, exist_ok=True)
        model, rows = train(**shape)
        booster = model.get_booster()
        booster.save_model(out / "model.json")
        rows.tofile(out / "rows.bin")
        np.save(out / "expected.npy", probabilities(booster.predict(xgboost.DMatrix(rows), output_margin=True)))
        for peer, write in (("m2cgen", m2cgen_c), ("tl2cgen", tl2cgen_c), ("emlearn", emlearn_c)):
            (out / peer).mkdir(exist_ok=True)
            (out / peer / "failed").unlink(missing_ok=True)
            try:
                write(model, out, out / peer)
            except Exception as error:  # A peer that cannot take the model is reported in its row.
                (out / peer / "failed").write_text(f"{type(error).__name__}: {error}\n")
                print(f"{name} {peer}: {error}", file=sys.stderr)
        outputs = 1 if shape["classes"] == 2 else shape["classes"]
        trees = shape["rounds"] * outputs
        size = f"{trees} trees, depth ≤ {shape['depth']}"
        title = f"XGBoost, {size}, {shape['features']} features, {shape['classes']} classes"
        (out / "shape.json").write_text(
            json.dumps(dict(title=title, trees=trees, features=shape["features"], outputs=outputs))
        )


def train(rounds: int, depth: int, features: int, classes: int, seed: int) -> tuple[xgboost.XGBClassifier, np.ndarray]:
    """A classifier of correlated normals, some of them heavy-tailed as indicators are, and rows it has not seen."""
    rng = np.random.default_rng(seed)
    n = TRAINING_ROWS + ROWS
    loads = np.sin(np.outer(np.arange(1, 5), np.arange(features)) * 0.7)
    x = 0.8 * rng.standard_normal((n, features)) + 0.5 * rng.standard_normal((n, 4)) @ loads
    x[:, 1::5] /= np.sqrt(rng.chisquare(2, x[:, 1::5].shape) / 2 + 1e-3)
    z = np.tanh(x)
    scores = [
        z @ np.cos(1.3 * np.arange(features) + c) + 1.5 * np.sin(3 * z[:, c]) * z[:, c + 1] for c in range(classes)
    ]
    y = (np.stack(scores, 1) + rng.gumbel(size=(n, classes))).argmax(1)
    x = x.astype(np.float32)
    # One thread: more would sum in another order. m2cgen reads the last two from the parameters and has no defaults.
    model = xgboost.XGBClassifier(
        n_estimators=rounds,
        max_depth=depth,
        learning_rate=0.1,
        random_state=seed,
        n_jobs=1,
        base_score=0.5,
        num_parallel_tree=1,
    )
    return model.fit(x[:TRAINING_ROWS], y[:TRAINING_ROWS]), x[TRAINING_ROWS:]


def probabilities(margins: np.ndarray) -> np.ndarray:
    """Softmax or sigmoid in double precision, `[rows, outputs]`."""
    margins = margins.astype(np.float64)
    if margins.ndim == 1:
        return (1 / (1 + np.exp(-margins)))[:, None]
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def m2cgen_c(model: xgboost.XGBClassifier, _: Path, out: Path) -> None:
    """Nested ifs on doubles, which a Cortex-M4F has in software only, and the same text with `float` for `double`."""
    import m2cgen

    sys.setrecursionlimit(10_000)
    source = m2cgen.export_to_c(model)
    single = out.with_name("m2cgen-float")
    single.mkdir(exist_ok=True)
    (out / "model.c").write_text(source)
    (single / "model.c").write_text(source.replace("double", "float").replace("exp(", "expf("))


def tl2cgen_c(_: xgboost.XGBClassifier, folder: Path, out: Path) -> None:
    """Nested ifs on floats, and on ranks of thresholds where `quantize` is set."""
    import tl2cgen
    import treelite

    model = treelite.frontend.load_xgboost_model(folder / "model.json")
    for quantize in (0, 1):
        into = out if quantize == 0 else out.with_name("tl2cgen-quantized")
        tl2cgen.generate_c_code(model, dirpath=into, params=dict(quantize=quantize))
        (into / "main.c").rename(into / "model.c")


def emlearn_c(_: xgboost.XGBClassifier, folder: Path, out: Path) -> None:
    """Nested ifs on floats. Each class's trees are handed over as one regressor, of which it gives the mean."""
    import emlearn
    from emlearn import cgen
    from emlearn import trees as emlearn_trees

    # Its own six decimals would be another model.
    written = cgen.constant
    cgen.constant = lambda value, dtype="float": f"{value:#.9g}f" if dtype == "float" else written(value, dtype)
    learner = json.loads((folder / "model.json").read_text())["learner"]
    trees = [emlearn_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    features = int(learner["learner_model_param"]["num_feature"])
    # It compares every leaf with every other, for an array that inline trees do not read.
    emlearn_trees.remove_duplicate_leaves = lambda forest: forest
    # Whether leaves are values is decided by the name of the class.
    regressor = type("RandomForestRegressor", (SimpleNamespace,), {})
    sources = []
    for at in range(outputs):
        estimators = [SimpleNamespace(tree_=tree, n_features_in_=features) for tree in trees[at::outputs]]
        converted = emlearn.convert(regressor(estimators_=estimators), method="inline", dtype="float")
        sources.append(converted.save(name=f"group{at}"))
    (out / "model.c").write_text("\n".join(sources))


def emlearn_tree(tree: dict) -> SimpleNamespace:
    """An XGBoost tree in scikit-learn's arrays; emlearn compares with `<`, as XGBoost does."""
    conditions = np.array(tree["split_conditions"], np.float32).astype(np.float64)
    return SimpleNamespace(
        children_left=tree["left_children"],
        children_right=tree["right_children"],
        feature=tree["split_indices"],
        threshold=conditions,
        value=conditions[:, None, None],
        node_count=len(conditions),
    )


if __name__ == "__main__":
    main()

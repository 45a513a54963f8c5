"""Turns a trained tree model into what its peers execute, below build/SHAPE.

    python convert_trees.py SHAPE STAGE

STAGE: `lightgbm` lightgbm.txt, `onnx` model.onnx, `tl2cgen` tl2cgen.so, `lleaves` lleaves.so, `ydf` ydf/ and ydf.h
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from catalog import SHAPES, Trees, build, models

TREES_PER_UNIT = 10
"""Trees in one C file of tl2cgen: gcc's time grows faster than a function does."""


def main() -> None:
    """Carries out the stage named on the command line."""
    shape, stage = SHAPES[sys.argv[1]], sys.argv[2]
    {"lightgbm": to_lightgbm, "onnx": to_onnx, "tl2cgen": to_tl2cgen, "lleaves": to_lleaves, "ydf": to_ydf}[stage](
        shape
    )


def lightgbm_file(shape: Trees) -> Path:
    """The model as LightGBM text: as trained, or rewritten."""
    return shape.model if shape.library == "lightgbm" else build(shape.name) / "lightgbm.txt"


def xgboost_trees(shape: Trees) -> tuple[list[dict], np.ndarray]:
    """Trees of an XGBoost file, and the margin of no tree per class."""
    learner = json.loads(shape.model.read_text())["learner"]
    stored = learner["learner_model_param"]["base_score"]
    base = np.array(json.loads(stored) if stored.startswith("[") else [float(stored)], float)
    if learner["objective"]["name"] == "binary:logistic":
        base = np.log(base / (1 - base))
    return learner["gradient_booster"]["model"]["trees"], np.resize(base, shape.outputs)


def to_lightgbm(shape: Trees) -> None:
    """XGBoost's `x < t` becomes LightGBM's `x <= t'` with t' the float32 before t: exact for float32 rows."""
    import lightgbm

    trees, base = xgboost_trees(shape)
    head = [
        "tree",
        "version=v4",
        f"num_class={shape.outputs}",
        f"num_tree_per_iteration={shape.outputs}",
        "label_index=0",
        f"max_feature_idx={shape.features - 1}",
        "objective=" + ("binary sigmoid:1" if shape.outputs == 1 else f"multiclass num_class:{shape.outputs}"),
        "feature_names=" + " ".join(f"f{i}" for i in range(shape.features)),
        "feature_infos=" + " ".join(["[-1e30:1e30]"] * shape.features),
    ]
    texts = [_lightgbm_tree(at, tree, base[at] if at < shape.outputs else 0.0) for at, tree in enumerate(trees)]
    sizes = "tree_sizes=" + " ".join(str(len(text)) for text in texts)
    body = "".join(texts) + "end of trees"
    text = "\n".join([*head, sizes, "", body, "", "pandas_categorical:null", ""])
    raw = lightgbm.Booster(model_str=text).predict(np.load(models(shape.name) / "rows.npy"), raw_score=True)
    error = np.abs(raw - np.load(models(shape.name) / "raw.npy")).max()
    if error > 1e-4:
        sys.exit(f"the rewritten model is off by {error}")
    lightgbm_file(shape).write_text(text)


def _lightgbm_tree(at: int, tree: dict, base: float) -> str:
    left, right, features, conditions, default_left = (
        tree[key] for key in ("left_children", "right_children", "split_indices", "split_conditions", "default_left")
    )
    inner, leaves, stack = {}, {}, [0]
    while stack:
        node = stack.pop()
        numbered = leaves if left[node] < 0 else inner
        numbered[node] = len(numbered)
        if numbered is inner:
            stack += [right[node], left[node]]
    child = lambda node: inner[node] if node in inner else ~leaves[node]
    before = lambda value: np.nextafter(np.float32(value), np.float32(-np.inf))
    join = lambda values: " ".join(str(value) for value in values)
    precise = lambda values: " ".join(f"{float(value):.17g}" for value in values)
    lines = [
        f"Tree={at}",
        f"num_leaves={len(leaves)}",
        "num_cat=0",
        "split_feature=" + join(features[node] for node in inner),
        "split_gain=" + join(1 for _ in inner),
        "threshold=" + precise(before(conditions[node]) for node in inner),
        # NaN is the missing value (8), and goes left (2) or right.
        "decision_type=" + join(8 | 2 * bool(default_left[node]) for node in inner),
        "left_child=" + join(child(left[node]) for node in inner),
        "right_child=" + join(child(right[node]) for node in inner),
        "leaf_value=" + precise(float(np.float32(conditions[node])) + base for node in leaves),
        "leaf_weight=" + join(1 for _ in leaves),
        "leaf_count=" + join(1 for _ in leaves),
        "internal_value=" + join(0 for _ in inner),
        "internal_weight=" + join(0 for _ in inner),
        "internal_count=" + join(1 for _ in inner),
        "is_linear=0",
        "shrinkage=1",
    ]
    return "\n".join([*lines, "", "", ""])


def to_onnx(shape: Trees) -> None:
    """ONNX-ML's tree ensemble; its last output are probabilities."""
    import onnx
    from onnxmltools.convert import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    inputs = [("x", FloatTensorType([None, shape.features]))]
    if shape.library == "xgboost":
        import xgboost

        model = xgboost.XGBClassifier()
        model.load_model(shape.model)
        converted = convert_xgboost(model, initial_types=inputs, target_opset=15)
    else:
        import lightgbm

        booster = lightgbm.Booster(model_file=shape.model)
        converted = convert_lightgbm(booster, initial_types=inputs, target_opset=15, zipmap=False)
    onnx.save(converted, build(shape.name) / "model.onnx")


def to_tl2cgen(shape: Trees) -> None:
    """C code with thresholds as integer ranks, its fastest setting, by gcc for this CPU."""
    import tl2cgen
    import treelite

    load = treelite.frontend.load_xgboost_model if shape.library == "xgboost" else treelite.frontend.load_lightgbm_model
    folder = build(shape.name) / "tl2cgen"
    units = max(1, shape.rounds * shape.outputs // TREES_PER_UNIT)
    tl2cgen.generate_c_code(load(shape.model), dirpath=folder, params=dict(parallel_comp=units, quantize=1))
    objects = []
    for source in sorted(folder.glob("*.c")):
        objects.append(source.with_suffix(".o"))
        # What an earlier run that was cut short had compiled is the same.
        if not objects[-1].exists():
            partial = source.with_suffix(".partial")
            command = ["gcc", "-O3", "-march=native", "-std=c99", "-fPIC", "-c", source, "-o", partial]
            subprocess.run(command, check=True)
            partial.rename(objects[-1])
    subprocess.run(["gcc", "-shared", "-o", build(shape.name) / "tl2cgen.so", *objects, "-lm"], check=True)


def to_lleaves(shape: Trees) -> None:
    """LLVM code in single precision, whose thresholds lleaves rounds so that float32 rows go the same way."""
    import lleaves

    compiled = build(shape.name) / "lleaves.o"
    compiled.unlink(missing_ok=True)
    model = lleaves.Model(model_file=lightgbm_file(shape))
    model.compile(cache=compiled, raw_score=True, fcodemodel="small", use_fp64=False)
    link = ["gcc", "-shared", "-z", "notext", compiled, "-o", compiled.with_suffix(".so")]
    subprocess.run(link, check=True)


def to_ydf(shape: Trees) -> None:
    """The trees rebuilt one by one in YDF, saved for its own engines and as C++.

    `x < t` goes left, so `x >= t` is YDF's positive child. Of LightGBM's `x <= t` it is `x >= t'` with t' the float32
    after t. A missing value takes the mean in YDF's fast engines: wrong wherever a row holds one.
    """
    import ydf

    rows = np.load(models(shape.name) / "rows.npy")
    columns = {f"f{j}": rows[:, j] for j in range(shape.features)}
    label = np.array([str(at % shape.classes) for at in range(len(rows))])
    learner = ydf.GradientBoostedTreesLearner(
        label="y",
        features=[ydf.Feature(name, ydf.Semantic.NUMERICAL) for name in columns],
        num_trees=1,
        max_depth=2,
        validation_ratio=0.0,
        early_stopping="NONE",
    )
    model = learner.train({**columns, "y": label}, verbose=0)
    specification = enumerate(model.data_spec().columns)
    column = {spec.name: (at, spec.numerical.mean) for at, spec in specification}
    while model.num_trees():
        model.remove_tree(0)

    def convert(node):
        if not isinstance(node, tuple):
            leaf = ydf.tree.RegressionValue(num_examples=1.0, value=node, standard_deviation=None)
            return ydf.tree.Leaf(value=leaf)
        feature, threshold, below, above = node
        at, mean = column[f"f{feature}"]
        condition = ydf.tree.NumericalHigherThanCondition(
            missing=bool(mean >= threshold), score=1.0, attribute=at, threshold=threshold
        )
        return ydf.tree.NonLeaf(condition=condition, pos_child=convert(above), neg_child=convert(below))

    roots, base = _nested_xgboost(shape) if shape.library == "xgboost" else _nested_lightgbm(shape)
    for root in roots:
        model.add_tree(ydf.tree.Tree(root=convert(root)))
    model.set_initial_predictions(base)
    model.set_node_format(ydf.NodeFormat.BLOB_SEQUENCE)
    folder = build(shape.name)
    model.save(str(folder / "ydf"))
    source = model.to_standalone_cc(name="forest", algorithm="ROUTING", classification_output="SCORE")
    (folder / "ydf.h").write_text(source)


def _nested_xgboost(shape: Trees) -> tuple[list, np.ndarray]:
    """Trees as (feature, threshold, below, at or above) or a leaf's value."""
    trees, base = xgboost_trees(shape)

    def nest(tree: dict, node: int):
        value = float(np.float32(tree["split_conditions"][node]))
        if tree["left_children"][node] < 0:
            return value
        children = [nest(tree, tree[side][node]) for side in ("left_children", "right_children")]
        return (tree["split_indices"][node], value, *children)

    return [nest(tree, 0) for tree in trees], base


def _nested_lightgbm(shape: Trees) -> tuple[list, np.ndarray]:
    import lightgbm

    def nest(node: dict):
        if "leaf_value" in node:
            return float(node["leaf_value"])
        threshold = np.float32(node["threshold"])
        if float(threshold) > node["threshold"]:
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        after = float(np.nextafter(threshold, np.float32(np.inf)))
        return (node["split_feature"], after, nest(node["left_child"]), nest(node["right_child"]))

    trees = lightgbm.Booster(model_file=shape.model).dump_model()["tree_info"]
    return [nest(tree["tree_structure"]) for tree in trees], np.zeros(shape.outputs)


if __name__ == "__main__":
    main()

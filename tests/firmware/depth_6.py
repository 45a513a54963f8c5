"""Writes a LightGBM model of complete trees of six levels, for the count of instructions per tree:

    python3 depth_6.py >depth-6.txt && qsc model compile depth-6.txt --name depth-6 --output depth-6.qsm
"""

TREES, LEVELS, FEATURES = 96, 6, 24
NODES = 2**LEVELS - 1
state = 7


def below(limit: int) -> int:
    global state
    state = (state * 1_103_515_245 + 12_345) % 2**31
    return (state >> 8) % limit


def child(at: int) -> int:
    """Nodes in order of levels; behind them come the leaves, which LightGBM counts as −1, −2, …"""
    return at if at < NODES else NODES - at - 1


def row(name: str, values) -> str:
    return f"{name}=" + " ".join(str(value) for value in values)


def tree(number: int) -> str:
    return "\n".join([
        f"Tree={number}",
        f"num_leaves={NODES + 1}",
        "num_cat=0",
        row("split_feature", (below(FEATURES) for _ in range(NODES))),
        row("split_gain", [1] * NODES),
        row("threshold", (below(200) / 4 - 25 for _ in range(NODES))),
        row("decision_type", [2] * NODES),
        row("left_child", (child(2 * at + 1) for at in range(NODES))),
        row("right_child", (child(2 * at + 2) for at in range(NODES))),
        row("leaf_value", ((below(2001) - 1000) / 1e4 for _ in range(NODES + 1))),
        row("leaf_weight", [1] * (NODES + 1)),
        row("leaf_count", [1] * (NODES + 1)),
        row("internal_value", [0] * NODES),
        row("internal_weight", [1] * NODES),
        row("internal_count", [1] * NODES),
        "is_linear=0",
        "shrinkage=1",
        "",
        "",
    ])


trees = [tree(number) for number in range(TREES)]
print("\n".join([
    "tree",
    "version=v4",
    "num_class=1",
    "num_tree_per_iteration=1",
    "label_index=0",
    f"max_feature_idx={FEATURES - 1}",
    "objective=regression",
    row("feature_names", (f"f{at}" for at in range(FEATURES))),
    row("feature_infos", ["[-25:25]"] * FEATURES),
    row("tree_sizes", (len(text) for text in trees)),
    "",
    "".join(trees) + "end of trees",
    "",
    "feature_importances:",
    "",
    "parameters:",
    "end of parameters",
    "",
    "pandas_categorical:null",
]))

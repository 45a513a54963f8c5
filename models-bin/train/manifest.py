"""Writes MANIFEST.toml: what each image is, where it comes from, and how well it did on held-out synthetic data.

usage: manifest.py DIR    (the directory that holds trained/ and images/)
"""

import hashlib
import json
import sys
from pathlib import Path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_config(directory, file):
    """The config beside a network's weights; trees have none."""
    if not file.endswith(".safetensors"):
        return None
    return json.loads((directory / "trained" / file).with_suffix(".json").read_text())


def toml_list(values):
    return "[" + ", ".join(json.dumps(value) for value in values) + "]"


def main(directory):
    metadata = json.loads((directory / "trained" / "metadata.json").read_text())
    nets = json.loads((directory / "trained" / "metadata_nets.json").read_text())
    lines = [
        "# What each bundled image is and where it comes from; written by compile.sh, checked by the tests.",
        f"synthetic = {json.dumps(metadata['synthetic'])}",
        f"note = {json.dumps(metadata['note'])}",
        f"training_seed = {metadata['seed']}",
    ]
    models = metadata["models"] | nets["models"]
    for name in ["xgb", "lgbm", "nhits", "patchtst"]:
        model = models[name]
        config = source_config(directory, model["file"])
        # A network's config names its classes; the trees' are those of their labels.
        classes = metadata["classes"] if config is None else config.get("classes", [])
        image = directory / "images" / f"{name}.qsm"
        source = directory / "trained" / model["file"]
        lines += [
            "",
            "[[model]]",
            f"name = {json.dumps(name)}",
            f"image = {json.dumps(f'images/{name}.qsm')}",
            f"sha256 = {json.dumps(digest(image))}",
            f"bytes = {image.stat().st_size}",
            f"source = {json.dumps(f'trained/{source.name}')}",
            f"source_sha256 = {json.dumps(digest(source))}",
            f"library = {json.dumps(model['library'])}",
            f"library_version = {json.dumps(model['version'])}",
            f"classes = {toml_list(classes)}",
            f"features = {toml_list(model['features'])}",
            f"hold_out_accuracy = {model['hold_out_accuracy']}",
        ]
    (directory / "MANIFEST.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

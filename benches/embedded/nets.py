"""Trains a small forecasting network and writes it for QSC, MicroFlow and TensorFlow Lite Micro.

    python nets.py OUT

The network: the last WINDOW values → two hidden layers with ReLU → the differences of the next HORIZON values from the
last one. neuralforecast's NHITS with one block, no pooling and no interpolation is just that, and adds the last value.

OUT/N1/: rows.bin (f32 rows), expected.npy (f32 forecasts in double precision), shape.json, model.safetensors (QSC),
model.tflite (8 bits, one scale per output channel), tensor.tflite (one scale per tensor, as MicroFlow reads it).
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

WINDOW, HIDDEN, HORIZON = 96, 128, 16
ROWS, TRAINING_ROWS, CALIBRATION_ROWS = 128, 20_000, 1_000


def main() -> None:
    """Makes the network below the folder named on the command line."""
    out = Path(sys.argv[1]) / "N1"
    out.mkdir(parents=True, exist_ok=True)
    tf.keras.utils.set_random_seed(21)
    windows, future = series(TRAINING_ROWS + ROWS, np.random.default_rng(21))
    net = tf.keras.Sequential(
        [
            tf.keras.Input((WINDOW,)),
            tf.keras.layers.Dense(HIDDEN, activation="relu"),
            tf.keras.layers.Dense(HIDDEN, activation="relu"),
            tf.keras.layers.Dense(HORIZON),
        ]
    )
    net.compile(tf.keras.optimizers.Adam(1e-3), "mse")
    training = windows[:TRAINING_ROWS]
    net.fit(training, (future - windows[:, -1:])[:TRAINING_ROWS], batch_size=64, epochs=8, verbose=0)

    rows = windows[TRAINING_ROWS:]
    rows.tofile(out / "rows.bin")
    weights = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in net.layers]
    np.save(out / "expected.npy", forecast(weights, rows))
    (out / "model.tflite").write_bytes(to_tflite(net, training[:CALIBRATION_ROWS], per_channel=True))
    (out / "tensor.tflite").write_bytes(to_tflite(net, training[:CALIBRATION_ROWS], per_channel=False))
    to_nhits(weights, out / "model.safetensors")
    layers = " → ".join(map(str, (WINDOW, HIDDEN, HIDDEN, HORIZON)))
    (out / "shape.json").write_text(
        json.dumps(dict(title=f"NHITS of one block, {layers}, ReLU, int8", features=WINDOW, outputs=HORIZON))
    )


def series(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows `[n, WINDOW]` and what follows `[n, HORIZON]`: waves of random periods and a random walk, scaled."""
    length = WINDOW + HORIZON
    period, phase, height = (rng.uniform(low, high, (n, 3, 1)) for low, high in ((6, 60), (0, 2 * np.pi), (0.2, 1)))
    waves = (height * np.sin(2 * np.pi * np.arange(length) / period + phase)).sum(axis=1)
    x = waves + 0.05 * rng.standard_normal((n, length)).cumsum(axis=1) + 0.05 * rng.standard_normal((n, length))
    past = x[:, :WINDOW]
    x = (x - past.mean(axis=1, keepdims=True)) / past.std(axis=1, keepdims=True)
    return x[:, :WINDOW].astype(np.float32), x[:, WINDOW:].astype(np.float32)


def forecast(weights: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """The network in double precision."""
    x = rows.astype(np.float64)
    for kernel, bias in weights[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    kernel, bias = weights[-1]
    return x @ kernel + bias + rows[:, -1:]


def to_tflite(net: tf.keras.Model, calibration: np.ndarray, per_channel: bool) -> bytes:
    """Full integer quantization, input and output included."""
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel
    return converter.convert()


def to_nhits(weights: list[tuple[np.ndarray, np.ndarray]], out: Path) -> None:
    """neuralforecast's file. Its first layer has no activation: the identity here. The last begins with a backcast."""
    first, second, last = ((kernel.T, bias) for kernel, bias in weights)
    theta = np.zeros((WINDOW + HORIZON, HIDDEN), np.float32), np.zeros(WINDOW + HORIZON, np.float32)
    theta[0][WINDOW:], theta[1][WINDOW:] = last
    # It reads the window in reversed time.
    first = first[0][:, ::-1], first[1]
    layers = {0: (np.eye(WINDOW, dtype=np.float32), np.zeros(WINDOW, np.float32)), 1: first, 3: second, 5: theta}
    tensors = {}
    for at, (weight, bias) in layers.items():
        tensors[f"blocks.0.layers.{at}.weight"] = np.ascontiguousarray(weight)
        tensors[f"blocks.0.layers.{at}.bias"] = np.ascontiguousarray(bias)
    hyper = dict(
        h=HORIZON,
        input_size=WINDOW,
        loss={"cls": "MSE"},
        scaler_type="identity",
        stack_types=["identity"],
        n_blocks=[1],
        mlp_units=[[WINDOW, HIDDEN], [HIDDEN, HIDDEN]],
        n_pool_kernel_size=[1],
        n_freq_downsample=[1],
        pooling_mode="MaxPool1d",
        interpolation_mode="linear",
        dropout_prob_theta=0.0,
        activation="ReLU",
    )
    save_file(tensors, out, {"model_class": "NHITS", "hyper_parameters": json.dumps(hyper)})


if __name__ == "__main__":
    main()

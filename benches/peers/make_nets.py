"""Makes a network of `../accuracy/nets.py` and what its peers execute.

    python make_nets.py SHAPE STAGE

STAGE `model`: model.safetensors, config.json, rows.npy, calibration.npy and, last, expected.npy. Below build/SHAPE:
`onnx` model.onnx, `ort-int8` dynamic.onnx, `openvino` openvino.xml, `openvino-int8` int8.xml, `torch` traced.pt
"""

import os
import sys
import warnings

from catalog import ROOT, SHAPES, Net, build, models

sys.path[1:1] = [str(ROOT / "benches" / "accuracy"), str(ROOT / "models-bin" / "train")]
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from safetensors.torch import load_file

import nets
from regimes import samples

CALIBRATION_SEED, CALIBRATION_ROWS = 55, 512


def main() -> None:
    """Carries out the stage named on the command line."""
    shape, stage = SHAPES[sys.argv[1]], sys.argv[2]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)
    net = next(net for net in nets.nets() if net.name == shape.layout)
    {
        "model": make_model,
        "onnx": make_onnx,
        "ort-int8": make_ort_int8,
        "openvino": make_openvino,
        "openvino-int8": make_openvino_int8,
        "torch": make_torch,
    }[stage](shape, net)


def make_model(shape: Net, net: nets.Net) -> None:
    """Trains the net; draws the windows that quantizers may look at."""
    out = models(shape.name)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "calibration.npy", net.rows(samples(CALIBRATION_ROWS, *net.window, seed=CALIBRATION_SEED)))
    nets.ensure(net, out)


class Answering(torch.nn.Module):
    """The net from rows to what `qsc predict` answers: probabilities, or the forecast."""

    def __init__(self, shape: Net, net: nets.Net):
        super().__init__()
        self.model = net.make()
        self.model.load_state_dict(load_file(models(shape.name) / "model.safetensors"))
        self.net = net
        self.eval()
        self.requires_grad_(False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows → answers."""
        return self.net.output(self.net.forward(self.model, rows))


def one_row(shape: Net) -> torch.Tensor:
    """An example input."""
    return torch.from_numpy(np.load(models(shape.name) / "rows.npy")[:1])


def calibration(shape: Net) -> np.ndarray:
    """Rows that no accuracy is measured on."""
    return np.load(models(shape.name) / "calibration.npy")


def make_onnx(shape: Net, net: nets.Net) -> None:
    """float32, one row."""
    program = torch.onnx.export(
        Answering(shape, net), (one_row(shape),), input_names=["x"], output_names=["y"], opset_version=18, dynamo=True
    )
    program.save(build(shape.name) / "model.onnx")


def make_ort_int8(shape: Net, _: nets.Net) -> None:
    """ONNX Runtime's dynamic quantization: 8-bit weights per channel, activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = build(shape.name)
    quant_pre_process(folder / "model.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
    quantize_dynamic(folder / "prepared.onnx", folder / "dynamic.onnx", weight_type=QuantType.QInt8, per_channel=True)


def make_openvino(shape: Net, _: nets.Net) -> None:
    """OpenVINO's own format; the precision is chosen when it is loaded."""
    import openvino

    folder = build(shape.name)
    model = openvino.convert_model(folder / "model.onnx")
    openvino.save_model(model, folder / "openvino.xml", compress_to_fp16=False)


def make_openvino_int8(shape: Net, _: nets.Net) -> None:
    """nncf's post-training quantization.

    Transformers without SmoothQuant, whose default biases N1. In N4 only matrix products: nncf's default makes its
    forecasts useless.
    """
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    rows = calibration(shape)
    dataset = nncf.Dataset([rows[i : i + 1] for i in range(len(rows))], lambda row: {0: row})
    options = dict(preset=nncf.QuantizationPreset.MIXED)
    if shape.name == "N1":
        without = AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
        options |= dict(
            model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=without),
        )
    if shape.name == "N2":
        options |= dict(model_type=nncf.ModelType.TRANSFORMER)
    if shape.name == "N4":
        spared = ["MaxPool", "Add", "Subtract", "Multiply", "Interpolate", "Gather", "GatherND", "Squeeze", "Unsqueeze"]
        spared += ["Slice", "StridedSlice", "Reshape", "Transpose"]
        options = dict(
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(types=spared, validate=False),
        )
    folder = build(shape.name)
    quantized = nncf.quantize(
        openvino.convert_model(folder / "model.onnx"), dataset, subset_size=CALIBRATION_ROWS, **options
    )
    openvino.save_model(quantized, folder / "int8.xml", compress_to_fp16=False)


def make_torch(shape: Net, net: nets.Net) -> None:
    """TorchScript, traced and frozen, for libtorch."""
    import contextlib

    from pytorch_lightning.core.module import _jit_is_scripting

    # A LightningModule without a trainer can only be traced when it takes this for scripting.
    with _jit_is_scripting() if shape.name == "N4" else contextlib.nullcontext():
        traced = torch.jit.trace(Answering(shape, net), one_row(shape), check_trace=False)
        torch.jit.freeze(traced).save(str(build(shape.name) / "traced.pt"))


if __name__ == "__main__":
    main()

"""How each engine becomes one relocatable object or one set of cargo features, by its own documented settings."""

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
SECTIONS = ["-ffunction-sections", "-fdata-sections"]
LIBRARIES = ["-Wl,--start-group", "-lm", "-lc_nano", "-lgcc", "-lnosys", "-Wl,--end-group"]
ARENA_BYTES = 4032
"""Of TensorFlow Lite Micro: the least multiple of 64 with which the network starts. It uses 3172 of them to predict."""

TFLM_FLAGS = ["-DTF_LITE_STATIC_MEMORY", "-DTF_LITE_STRIP_ERROR_STRINGS", "-DNDEBUG", "-DCMSIS_NN", "-w"]
TFLM_FLAGS += ["-DKERNELS_OPTIMIZED_FOR_SPEED", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
TFLM_MICRO = """debug_log flatbuffer_utils memory_helpers micro_allocation_info micro_allocator micro_context
micro_interpreter micro_interpreter_context micro_interpreter_graph micro_log micro_op_resolver
micro_resource_variable micro_utils"""
TFLM_LITE = """core/c/common core/api/flatbuffer_conversions core/api/tensor_utils kernels/kernel_util
kernels/internal/common kernels/internal/quantization_util kernels/internal/tensor_ctypes
kernels/internal/portable_tensor_utils"""
TFLM_SCHEMA = "core/api/error_reporter schema/schema_utils"
TFLM_ROOMS = "arena_allocator memory_planner tflite_bridge"
CMSIS_CONVOLUTION = "arm_convolve_1x1_s8_fast arm_convolve_get_buffer_sizes_s8"
TFLM_KERNELS = "kernel_util fully_connected_common cmsis_nn/fully_connected"
"""The sources of its makefile's microlite library that one fully connected network needs."""


@dataclass(frozen=True)
class Job:
    """One row of the table: what the firmware is built with."""

    shape: str
    engine: str
    setting: str
    features: str = ""
    """Of the firmware crate."""
    environment: dict[str, str] = field(default_factory=dict)
    profile: dict[str, str] = field(default_factory=dict)
    model_bytes: int | None = None
    """Flash that comes with each model; None: what the firmware's read-only data grows by."""


def facts(folder: Path) -> dict:
    """Title and sizes of a shape, and the environment that every engine's firmware needs."""
    shape = json.loads((folder / "shape.json").read_text())
    common = dict(
        EMBEDDED_ROWS=str(folder / "rows.bin"),
        EMBEDDED_FEATURES=str(shape["features"]),
        EMBEDDED_OUTPUTS=str(shape["outputs"]),
    )
    return shape | dict(environment=common)


def none(folder: Path) -> Job:
    """The harness alone."""
    return Job(folder.name, "none", "", environment=facts(folder)["environment"])


def qsc(folder: Path, qsc: Path, level: str) -> Job:
    """The image that `qsc model compile` makes of the trained file, at one of rustc's levels."""
    source = next(path for name in ("model.json", "model.safetensors") if (path := folder / name).exists())
    image = folder / "qsc.qsm"
    command = [qsc, "model", "compile", source, "--output", image, "--name", folder.name.lower()]
    if facts(folder)["outputs"] == 3:
        command += ["--classes", "HOLD,BUY,SELL"]
    run(command)
    inspected = json.loads(run([qsc, "model", "inspect", image, "--format", "json"]))
    environment = facts(folder)["environment"] | dict(
        EMBEDDED_MODEL=str(image), EMBEDDED_SCRATCH=str(inspected["scratch_bytes"])
    )
    profile = dict(CARGO_PROFILE_RELEASE_OPT_LEVEL=level)
    features = "qsc-nets" if source.suffix == ".safetensors" else "qsc"
    return Job(folder.name, "QSC", f"opt-level {level}", features, environment, profile, image.stat().st_size)


def c_trees(folder: Path, peer: str, level: str) -> Job:
    """Generated C of one of the folders that trees.py fills; its wrapper is that of the name's first part."""
    source, wrapper = folder / peer, peer.partition("-")[0]
    for failed in (source / "failed", folder / wrapper / "failed"):
        if failed.exists():
            raise NotObtained(failed.read_text().strip())
    shape = facts(folder)
    into = source / level
    trees = shape["trees"] // shape["outputs"]
    flags = [level, f"-DFEATURES={shape['features']}", f"-DOUTPUTS={shape['outputs']}", f"-DTREES={trees}"]
    flags.append(f"-I{source}")
    if peer == "m2cgen":
        flags.append("-DREAL=double")
    else:
        # tl2cgen adds its leaves as double constants, in software; with this flag its sums are XGBoost's.
        flags += ["-DREAL=float", "-fsingle-precision-constant"]
    model = [compiled(path, into, flags) for path in sorted(source.glob("*.c"))]
    objects = [*model, compiled(HERE / f"peers/{wrapper}.c", into, flags)]
    return linked(folder, peer, level, objects, into, size(*model))


def tflm(folder: Path, sources: Path, kernels: str) -> Job:
    """TensorFlow Lite Micro with CMSIS-NN: core at -Os as its makefile has it, kernels at `kernels`."""
    shape, tree = facts(folder), sources / "tflite-micro"
    cmsis, lite, micro = sources / "CMSIS-NN", tree / "tensorflow/lite", tree / "tensorflow/lite/micro"
    roots = [tree, sources / "flatbuffers/include", sources / "gemmlowp", sources / "ruy", cmsis, cmsis / "Include"]
    flags = [*(f"-I{root}" for root in roots), *TFLM_FLAGS]
    plus = [*flags, "-std=c++17", "-fno-rtti", "-fno-exceptions", "-fno-threadsafe-statics"]
    core = [micro / f"{name}.cc" for name in TFLM_MICRO.split()] + [lite / f"{name}.cc" for name in TFLM_LITE.split()]
    core += [tree / f"tensorflow/compiler/mlir/lite/{name}.cc" for name in TFLM_SCHEMA.split()]
    core += [path for room in TFLM_ROOMS.split() for path in sorted((micro / room).glob("*.cc"))]
    operators = [micro / f"kernels/{name}.cc" for name in TFLM_KERNELS.split()]
    library = [cmsis / "Source/ConvolutionFunctions" / f"{name}.c" for name in CMSIS_CONVOLUTION.split()]
    library += [*(cmsis / "Source/FullyConnectedFunctions").glob("*.c")]
    library += [*(cmsis / "Source/NNSupportFunctions").glob("arm_nn_*mat_mul*.c")]
    shared, into = folder / "tflm", folder / f"tflm{kernels}"
    objects = [compiled(path, shared, [*plus, "-Os"]) for path in core if not path.stem.endswith("_test")]
    objects += [compiled(path, into, [*plus, kernels]) for path in operators]
    objects += [compiled(path, into, [*flags, kernels]) for path in sorted(library)]
    own = [f"-DARENA_BYTES={ARENA_BYTES}", f"-DFEATURES={shape['features']}", f"-DOUTPUTS={shape['outputs']}"]
    objects += [compiled(HERE / "peers/tflm.cc", into, [*plus, *own, "-Os"])]
    model = folder / "model.tflite"
    objects += [compiled(HERE / "peers/model.S", into, [f'-DMODEL_FILE="{model}"'])]
    return linked(folder, "TFLM + CMSIS-NN", f"kernels {kernels}", objects, into, model.stat().st_size)


def microflow(folder: Path, level: str) -> Job:
    """MicroFlow, whose macro compiles the network with one scale per tensor."""
    environment = facts(folder)["environment"] | dict(EMBEDDED_MODEL=str(folder / "tensor.tflite"))
    profile = dict(CARGO_PROFILE_RELEASE_OPT_LEVEL=level)
    return Job(folder.name, "microflow", f"opt-level {level}", "microflow", environment, profile)


class NotObtained(Exception):
    """Why there is no figure."""


def compiled(source: Path, into: Path, flags: list[str]) -> Path:
    """An object of one source, unless it was made by this very command after the source last changed."""
    command = ["arm-none-eabi-gcc", *CPU, *SECTIONS, *flags, "-c", str(source)]
    out = into / f"{source.stem}.{hashlib.sha256(repr(command).encode()).hexdigest()[:12]}.o"
    if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
        into.mkdir(exist_ok=True)
        partial = out.with_suffix(".partial")
        run([*command, "-o", partial])
        partial.rename(out)
    return out


def linked(folder: Path, engine: str, setting: str, objects: list[Path], into: Path, model_bytes: int) -> Job:
    """One relocatable object with what it needs of newlib and libgcc, so that no other soft-float is taken."""
    out = into / "engine.o"
    entries = ["-Wl,-u,engine_start", "-Wl,-u,engine_predict"]
    run(["arm-none-eabi-gcc", *CPU, "-nostdlib", "-r", "-o", out, *entries, *objects, *LIBRARIES])
    environment = facts(folder)["environment"] | dict(EMBEDDED_OBJECT=str(out))
    return Job(folder.name, engine, setting, "c", environment, model_bytes=model_bytes)


def size(*objects: Path) -> int:
    """Bytes of code and read-only data."""
    lines = run(["arm-none-eabi-size", *objects]).splitlines()[1:]
    return sum(int(line.split()[0]) + int(line.split()[1]) for line in lines)


def run(command: list, **more) -> str:
    """Its output. Raises `NotObtained` with the first line that says error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotObtained(next((line for line in lines if "error" in line.lower()), lines[-1])[:300])
    return done.stdout

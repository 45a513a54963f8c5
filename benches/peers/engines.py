"""The engines: what each needs prepared, how it is called, and which of the training library's answers it must give."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from catalog import HERE, NETS, SHAPES, TREES, WORK, Trees, build, models

QSC_DRIVERS, PEER_DRIVERS = WORK / "drivers" / "release", WORK / "drivers" / "peer"
TREE_PYTHON, NET_PYTHON, LLEAVES_PYTHON, DAAL_PYTHON = (
    WORK / name / "bin" / "python" for name in ("venv-trees", "venv-nets", "venv-lleaves", "venv-daal")
)


@dataclass(frozen=True)
class Stage:
    """One step of preparation: done when `output` exists."""

    name: str
    output: Path
    command: list
    seconds: int = 900
    """CPU time after which it is given up."""
    needs: tuple = ()
    """Stages before it."""


@dataclass(frozen=True)
class Engine:
    """A line of the table."""

    name: str
    """What `--engines` takes; engines of one name differ by `variant`."""
    variant: str
    kind: str
    """`trees` or `nets`."""
    driver: list
    """The program; one argument follows, the job."""
    job: Callable[[str], dict]
    """Shape → engine, model, library and setting of the job."""
    stages: Callable[[str], tuple]
    package: str | None = None
    """Package or crate whose version the table names."""
    answers: str = "raw"
    """`raw` margins or the `expected` probabilities, values or forecasts."""
    single: bool = True
    batch: bool = False
    library: str | None = None
    """The only training library whose models it takes."""

    def takes(self, shape: str) -> bool:
        """Whether the shape is of its kind."""
        shape = SHAPES[shape]
        if isinstance(shape, Trees):
            return self.kind == "trees" and self.library in (None, shape.library)
        return self.kind == "nets"

    @property
    def title(self) -> str:
        """Name and variant."""
        return f"{self.name} {self.variant}".strip()


def site(python: Path, pattern: str) -> Path | None:
    """A file that a package of the environment ships."""
    return next(iter(sorted(python.parents[1].glob(f"lib/python3*/site-packages/{pattern}"))), None)


def _python(python: Path, script: str, shape: str, stage: str) -> list:
    return [python, HERE / script, shape, stage]


def model_stage(shape: str) -> Stage:
    """Training."""
    tree = SHAPES[shape] in TREES
    command = (
        [TREE_PYTHON, HERE / "make_trees.py", shape] if tree else _python(NET_PYTHON, "make_nets.py", shape, "model")
    )
    return Stage("model", models(shape) / "expected.npy", command, seconds=1800)


def tree_stage(shape: str, stage: str, output: str, python: Path = TREE_PYTHON, **options) -> Stage:
    """A stage of convert_trees.py."""
    needs = options.pop("needs", ()) or (model_stage(shape),)
    command = _python(python, "convert_trees.py", shape, stage)
    return Stage(stage, build(shape) / output, command, needs=needs, **options)


def net_stage(shape: str, stage: str, output: str, *needs: Stage) -> Stage:
    """A stage of make_nets.py."""
    command = _python(NET_PYTHON, "make_nets.py", shape, stage)
    return Stage(stage, build(shape) / output, command, needs=needs or (model_stage(shape),))


def lightgbm_text(shape: str) -> tuple[tuple, Path]:
    """The stages that LightGBM's text form takes, and that file."""
    if SHAPES[shape].library == "lightgbm":
        return (model_stage(shape),), SHAPES[shape].model
    return (tree_stage(shape, "lightgbm", "lightgbm.txt"),), build(shape) / "lightgbm.txt"


def ydf_plugin(shape: str) -> Stage:
    """YDF's C++ as a plugin. Its narrowing errors stay errors: where g++ finds one, the code would answer wrongly."""
    output = build(shape) / "ydf.so"
    header = build(shape) / "ydf.h"
    command = ["g++", "-std=c++20", "-O3", "-march=native", "-shared", "-fPIC", f'-DHEADER="{header}"']
    command += [HERE / "plugins" / "ydf.cpp", "-o", output]
    return Stage("ydf-plugin", output, command, seconds=300, needs=(tree_stage(shape, "ydf", "ydf.h"),))


def torch_plugin() -> Stage:
    """libtorch as a plugin, against the headers and libraries of the Python package."""
    torch = NET_PYTHON.parents[1] / "lib" / site_folder(NET_PYTHON) / "site-packages" / "torch"
    output = build("plugins") / "torch.so"
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", f"-I{torch}/include"]
    command += [f"-I{torch}/include/torch/csrc/api/include", HERE / "plugins" / "torch.cpp", "-o", output]
    command += [f"-L{torch}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"]
    return Stage("torch-plugin", output, command)


def site_folder(python: Path) -> str:
    """`python3.x` of the environment."""
    return next(iter(sorted(path.name for path in python.parents[1].glob("lib/python3*"))), "python3")


def qsc_image(shape: str) -> Stage:
    """The image; compiled anew for every run, as the compiler may have changed."""
    config = models(shape) / "config.json"
    told = ["--config", config] if SHAPES[shape] in NETS and shape != "N4" else []
    output = build(shape) / "qsc.qsm"
    command = [WORK / "qsc", "model", "compile", SHAPES[shape].model, "--output", output, *told]
    return Stage("qsc", output, command, needs=(model_stage(shape),))


def _qsc(backend: str, kind: str) -> Engine:
    return Engine(
        "qsc",
        backend,
        kind,
        [QSC_DRIVERS / "driver-qsc"],
        lambda shape: dict(engine="qsc", model=build(shape) / "qsc.qsm", setting=backend),
        lambda shape: (qsc_image(shape),),
        answers="expected",
        batch=kind == "trees",
    )


def _native(name: str, variant: str, job: Callable[[str], dict], stages, package: str, **options) -> Engine:
    kind = options.pop("kind", "trees")
    return Engine(name, variant, kind, [PEER_DRIVERS / "driver-native"], job, stages, package, **options)


def _onnxruntime(variant: str, kind: str, file: str, stages: Callable[[str], tuple]) -> Engine:
    python = TREE_PYTHON if kind == "trees" else NET_PYTHON
    return Engine(
        "onnxruntime",
        variant,
        kind,
        [PEER_DRIVERS / "driver-onnxruntime"],
        lambda shape: dict(
            engine="onnxruntime",
            model=build(shape) / file,
            library=site(python, "onnxruntime/capi/libonnxruntime.so.*"),
        ),
        stages,
        "onnxruntime",
        answers="expected",
        batch=kind == "trees",
    )


def _openvino(variant: str, precision: str, file: str, stages: Callable[[str], tuple]) -> Engine:
    return _native(
        "openvino",
        variant,
        lambda shape: dict(
            engine="openvino",
            model=build(shape) / file,
            library=site(NET_PYTHON, "openvino/libs/libopenvino_c.so*"),
            setting=precision,
        ),
        stages,
        "openvino",
        kind="nets",
        answers="expected",
    )


def _by_python(name: str, variant: str, python: Path, stages, package: str, single: bool) -> Engine:
    return Engine(
        name,
        variant,
        "trees",
        [python, HERE / "by_python.py"],
        lambda shape: dict(engine=name, model=SHAPES[shape].model, library=build(shape) / "ydf"),
        stages,
        package,
        answers="expected",
        single=single,
        batch=True,
    )


def _onnx(shape: str) -> Stage:
    return net_stage(shape, "onnx", "model.onnx")


def _irs(shape: str) -> Stage:
    return net_stage(shape, "openvino", "openvino.xml", _onnx(shape))


def engines() -> list[Engine]:
    """All, in the order they are measured in."""
    tree = [
        *(_qsc(backend, "trees") for backend in ("scalar", "wide", "avx2", "avx512")),
        _native(
            "xgboost",
            "",
            lambda shape: dict(
                engine="xgboost", model=SHAPES[shape].model, library=site(TREE_PYTHON, "xgboost/lib/libxgboost.so")
            ),
            lambda shape: (model_stage(shape),),
            "xgboost",
            batch=True,
            library="xgboost",
        ),
        _native(
            "lightgbm",
            "",
            lambda shape: dict(
                engine="lightgbm",
                model=lightgbm_text(shape)[1],
                library=site(TREE_PYTHON, "lightgbm/lib/lib_lightgbm.so"),
            ),
            lambda shape: lightgbm_text(shape)[0],
            "lightgbm",
            batch=True,
        ),
        _native(
            "lleaves",
            "fp32",
            lambda shape: dict(engine="lleaves", model=lightgbm_text(shape)[1], library=build(shape) / "lleaves.so"),
            lambda shape: (
                tree_stage(shape, "lleaves", "lleaves.so", LLEAVES_PYTHON, seconds=300, needs=lightgbm_text(shape)[0]),
            ),
            "lleaves",
            batch=True,
        ),
        _native(
            "tl2cgen",
            "quantized",
            lambda shape: dict(engine="tl2cgen", model=SHAPES[shape].model, library=build(shape) / "tl2cgen.so"),
            lambda shape: (tree_stage(shape, "tl2cgen", "tl2cgen.so"),),
            "tl2cgen",
            batch=True,
        ),
        _onnxruntime("", "trees", "model.onnx", lambda shape: (tree_stage(shape, "onnx", "model.onnx"),)),
        _native(
            "ydf",
            "C++",
            lambda shape: dict(engine="plugin", model=build(shape) / "ydf.h", library=build(shape) / "ydf.so"),
            lambda shape: (ydf_plugin(shape),),
            "ydf",
        ),
        _by_python("ydf", "own timer", TREE_PYTHON, lambda shape: (tree_stage(shape, "ydf", "ydf.h"),), "ydf", True),
        _by_python("daal4py", "", DAAL_PYTHON, lambda shape: (model_stage(shape),), "scikit-learn-intelex", False),
    ]
    net = [
        *(_qsc(backend, "nets") for backend in ("scalar", "wide", "avx2", "avx512")),
        _openvino("f32", "f32", "openvino.xml", lambda shape: (_irs(shape),)),
        _openvino("bf16", "bf16", "openvino.xml", lambda shape: (_irs(shape),)),
        _openvino(
            "int8", "f32", "int8.xml", lambda shape: (net_stage(shape, "openvino-int8", "int8.xml", _onnx(shape)),)
        ),
        _onnxruntime("fp32", "nets", "model.onnx", lambda shape: (_onnx(shape),)),
        _onnxruntime(
            "int8", "nets", "dynamic.onnx", lambda shape: (net_stage(shape, "ort-int8", "dynamic.onnx", _onnx(shape)),)
        ),
        Engine(
            "tract",
            "f32",
            "nets",
            [PEER_DRIVERS / "driver-tract"],
            lambda shape: dict(engine="tract", model=build(shape) / "model.onnx"),
            lambda shape: (_onnx(shape),),
            "tract-onnx",
            answers="expected",
        ),
        _native(
            "pytorch",
            "libtorch, frozen trace",
            lambda shape: dict(
                engine="plugin", model=build(shape) / "traced.pt", library=build("plugins") / "torch.so"
            ),
            lambda shape: (net_stage(shape, "torch", "traced.pt"), torch_plugin()),
            "torch",
            kind="nets",
            answers="expected",
        ),
    ]
    return tree + net

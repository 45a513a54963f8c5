"""Engines that only Python reaches, measured where its share does not matter; job and output are those of the drivers.

daal4py: batches, whose Python call takes microseconds of milliseconds. YDF's engines (QuickScorer and others): by YDF's
own C++ timer, which gives the mean of one thread and no percentiles; the fastest that takes the model is reported.
"""

import json
import os
import re
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np


def main() -> None:
    """Measures the job on the command line and prints its timing."""
    job = json.loads(sys.argv[1])
    rows = np.ascontiguousarray(np.load(job["rows"]))
    answers, timing = {"daal4py": daal4py, "ydf": ydf}[job["engine"]](job, rows)
    answers = np.asarray(answers, np.float32).reshape(len(rows), -1)
    answers[:, -job["outputs"] :].tofile(job["answers"])
    print(json.dumps(timing))


def daal4py(job: dict, rows: np.ndarray) -> tuple[np.ndarray, dict]:
    """oneDAL through daal4py; `model` is the trained file."""
    import daal4py

    daal4py.daalinit(1)
    if job["model"].endswith(".json"):
        import xgboost

        booster = xgboost.Booster(model_file=job["model"])
    else:
        import lightgbm

        booster = lightgbm.Booster(model_file=job["model"])
    model = daal4py.mb.convert_model(booster)
    answers = model.predict_proba(rows)
    medians, calls = [], 0
    for _ in range(job["repeats"]):
        times, end = [], time.perf_counter() + job["seconds"]
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter_ns()
            model.predict_proba(rows)
            times.append((time.perf_counter_ns() - start) / len(rows))
        medians.append(float(np.median(times)))
        calls += len(times)
    return answers, dict(median=medians, p99=[], calls=calls)


def ydf(job: dict, rows: np.ndarray) -> tuple[np.ndarray, dict]:
    """YDF; `library` is the folder of the rebuilt model."""
    import ydf

    model = ydf.load_model(job["library"])
    columns = {f"f{j}": rows[:, j] for j in range(rows.shape[1])}
    answers = model.predict(columns)
    classes = len(model.label_classes())
    labelled = {**columns, "y": np.array([str(at % classes) for at in range(len(rows))])}
    options = dict(
        benchmark_duration=job["seconds"],
        warmup_duration=job["seconds"] / 2,
        batch_size=len(rows) if job["batch"] else 1,
        num_threads=1,
    )
    means = {}
    for engine in model.list_compatible_engines():
        model.force_engine(engine)
        means[engine] = [_mean(str(model.benchmark(labelled, **options))) for _ in range(job["repeats"])]
    fastest = min(means, key=lambda engine: np.median(means[engine]))
    return answers, dict(median=means[fastest], p99=[], calls=0, fastest=fastest.replace("GradientBoostedTrees", ""))


def _mean(report: str) -> float:
    """Nanoseconds per row of YDF's report."""
    value, unit = re.search(r"Single-thread inference time per example: ([\d.]+) (\w+)", report).groups()
    return float(value) * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[unit]


if __name__ == "__main__":
    main()

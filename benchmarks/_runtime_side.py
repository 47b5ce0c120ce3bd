"""One runtime with one file, in a process of its own: answers lines of JSON, for benchmarks/runtimes.py.

    python _runtime_side.py RUNTIME FILE [key=value ...]

``{"embed": [crops.npy, out.npy, batch]}`` embeds uint8[N, S, S, 3] crops so many at a time, ``{"time": count}`` gives
the seconds of each of `count` single crops. All on one thread, from crop to embedding.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[Any], Any]


def planes(crops: Any) -> Any:
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)


def normalized(crops: Any) -> Any:
    """What the default model takes, as its card says."""
    return (planes(crops) - np.float32(127.5)) / np.float32(127.5)


def onnxruntime(file: str) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda crops: session.run(None, {name: normalized(crops)})[0]


def opencv(file: str) -> Call:
    import cv2

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(file)

    def call(crops: Any) -> Any:
        net.setInput(normalized(crops))
        return net.forward().copy()

    return call


def openvino(file: str) -> Call:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    model = ov.Core().compile_model(file, "CPU", settings)
    fed = planes if file.endswith(".xml") else normalized  # facekd's .xml takes pixels
    return lambda crops: model([fed(crops)])[0].copy()


def tract(file: str) -> Call:
    import tract as tr

    ready: dict[int, Any] = {}

    def call(crops: Any) -> Any:
        if len(crops) not in ready:
            model = tr.onnx().load(file)
            model.set_input_fact(0, f"{len(crops)},3,{crops.shape[1]},{crops.shape[2]},f32")
            model.analyse()
            ready[len(crops)] = model.into_model().into_runnable()
        return ready[len(crops)].run([normalized(crops)])[0].to_numpy()

    return call


def mnn(file: str) -> Call:
    import MNN

    manager = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": 1, "precision": "high"},))
    names = json.loads(Path(file).with_suffix(".json").read_text())  # of its input and its output
    net = MNN.nn.load_module_from_file(file, [names[0]], [names[1]], runtime_manager=manager)

    def call(crops: Any) -> Any:
        images = normalized(crops)
        fed = MNN.expr.placeholder(list(images.shape), MNN.expr.NCHW, MNN.expr.float)
        fed.write(images)
        made = MNN.expr.convert(net.forward(MNN.expr.convert(fed, MNN.expr.NC4HW4)), MNN.expr.NCHW)
        return np.array(made.read()).reshape(len(crops), -1).copy()

    return call


def mnn_file(file: str, out: str) -> None:
    """Convert an ONNX file; by the converter itself, as its command line sends its makers a note."""
    import MNN  # noqa: F401  # its converter is found once it is loaded
    import onnx

    graph = onnx.load(file).graph
    importlib.import_module("_tools").mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", file, "--MNNModel", out, "--bizCode", "facekd"]
    )
    Path(out).with_suffix(".json").write_text(json.dumps([graph.input[0].name, graph.output[0].name]))


def native(file: str, ending: str, precision: str) -> Call:
    """A file for a device, as facekd checks it."""
    from facekd.deploy.targets.run import runner

    if ending == ".pte":
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(1)
    return runner(Path(file), ending, precision)  # type: ignore[no-any-return, unused-ignore]


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, whatever a runtime thinks of threads
    kind, file, *rest = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # runtimes print
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if kind == "mnn_file":
        mnn_file(file, *rest)
        return
    call = native(file, *rest) if kind == "native" else globals()[kind](file)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "embed" in asked:
            crops, out, batch = asked["embed"]
            given = np.load(crops)
            np.save(out, np.concatenate([call(given[at : at + batch]) for at in range(0, len(given), batch)]))
            said: Any = "done"
        else:
            given = np.load(asked["crops"])
            said = []
            for at in range(asked["time"]):
                start = time.perf_counter()
                call(given[at % len(given)][None])
                said.append(time.perf_counter() - start)
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()

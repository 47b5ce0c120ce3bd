"""What runs an ONNX file: ONNX Runtime or OpenVINO, as one call from any thread and in a forked process too.

A call takes one core. Many crops are cut into pieces of a few and the pieces are spread over the cores: what a few
crops make stays in a core's cache, no core waits for another after each layer, and a session without threads of its
own lives on in a forked process. `benchmarks/embed.py` measures this against one session on all cores.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from facekd.core.types import Array
from facekd.errors import UserError

OPENVINO_TELEMETRY = "openvino_telemetry"  # a package beside OpenVINO
BACKENDS = ("onnxruntime", "openvino", "torch")
FEW, FEW_INT8 = 2, 8  # crops in a piece: what their images take stays in a core's cache

T = TypeVar("T")


def pieces(count: int, threads: int, step: int) -> list[slice]:
    """Slices of at most `step` that cover `count` things and give each of `threads` something to do."""
    step = max(1, min(step, -(-count // threads)))
    return [slice(start, start + step) for start in range(0, count, step)]


def spread(call: Callable[[slice], T], parts: Sequence[slice], threads: int) -> list[T]:
    """`call` of each part, in order, by as many threads."""
    if threads == 1 or len(parts) < 2:
        return [call(part) for part in parts]
    # A pool made for each call costs 0.1 ms and leaves nothing behind that a fork could break.
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        return list(pool.map(call, parts))


def onnxruntime_session(source: Path | bytes, where: Path) -> Any:
    """The graph of a file, or of its bytes, in ONNX Runtime on one core.

    Args:
        where: the file that a refusal names.

    Raises:
        UserError: a file that it can't run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its exceptions say what fails; shape warnings are not the user's business
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    given = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, one for each way a file can be bad
        first = str(error).splitlines()[0]
        raise UserError(f"{where}: not an ONNX network that can be run ({first}); give another file") from error


def onnxruntime_call(session: Any, input_name: str, output_name: str) -> Callable[[Array], Array]:
    """A session of `onnxruntime_session` as one call."""

    def call(inputs: Array) -> Array:
        outputs: list[Array] = session.run([output_name], {input_name: inputs})
        return outputs[0]

    return call


def openvino_call(path: Path, output_name: str, threads: int) -> Callable[[Array], Array]:
    """The graph in OpenVINO, computed in float32 unless its file says otherwise.

    Raises:
        UserError: OpenVINO is missing, or can't run the file.
    """
    openvino = load_openvino()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it: 3e-3 away
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "PERFORMANCE_HINT": "THROUGHPUT",
    }

    def compiled() -> _Compiled:
        return _Compiled(os.getpid(), openvino.Core().compile_model(str(path), "CPU", settings), queue.SimpleQueue())

    try:
        home = compiled()
    except Exception as error:  # RuntimeError for nearly everything
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{path}: OpenVINO can't run it ({first}); use the onnxruntime backend") from error
    lock, left = threading.Lock(), list[_Compiled]()

    def call(inputs: Array) -> Array:
        nonlocal home
        if home.process != os.getpid():  # its threads did not come along into a forked process
            with lock:
                if home.process != os.getpid():
                    left.append(home)  # and letting go of it here would wait for them
                    home = compiled()
        here = home
        try:
            request = here.idle.get_nowait()
        except queue.Empty:
            request = here.model.create_infer_request()
        request.infer([inputs], share_inputs=True)
        output: Array = request.get_tensor(output_name).data.copy()
        here.idle.put(request)
        return output

    return call


def load_openvino() -> Any:
    """The module ``openvino``, which tells nobody that it was loaded.

    While it is loaded it would look Google Analytics up, unless its owner had said no in a file in the home folder: it
    does without the package for that where there is none.

    Raises:
        UserError: OpenVINO is missing.
    """
    before = sys.modules.get(OPENVINO_TELEMETRY)
    if before is None:
        sys.modules[OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # as Python has it: there is none
    try:
        import openvino
    except ImportError as error:
        raise UserError("the openvino backend needs OpenVINO: pip install 'facekd[export]'") from error
    finally:
        if before is None:
            del sys.modules[OPENVINO_TELEMETRY]
    return openvino


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A model as OpenVINO runs it in one process."""

    process: int
    model: Any
    idle: queue.SimpleQueue[Any]  # infer requests that no thread uses now

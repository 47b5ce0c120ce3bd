"""YuNet: the default detector, run by ONNX Runtime, its landmarks refined by MTCNN's last network.

The same boxes as ``cv2.FaceDetectorYN`` finds, at one and a half times its speed or more. YuNet knows faces of up to
some 500 pixels: where a photo has room for a larger one, a small copy of it is looked at too. YuNet's landmarks are
coarse, so each face's are measured again by `refine`.

W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.core.files import sha256_bytes
from facekd.core.kept import keep, kept
from facekd.core.types import Array, Faces
from facekd.errors import UserError
from facekd.faces.nms import nms
from facekd.faces.refine import load_refiner

WEIGHTS = Path(__file__).parents[1] / "weights" / "face_detection_yunet_2023mar.onnx"
SCORE = 0.7  # faces scored lower are dropped
OVERLAP = 0.3  # greatest intersection over union of two faces
# A photo is shrunk to the longest side or to the number of pixels, whichever leaves more of it: a long strip keeps its
# small faces, and no photo costs more than a square of the longest side.
LONGEST, PIXELS = 1024, 1024 * 768
# Faces that fill the photo (LFW enlarged): YuNet finds all of up to 500 pixels, 79 % of 640, 27 % of 800. So where the
# shorter side is above ROOM, a copy with that side at SMALL is looked at too, for faces of at least LARGE pixels.
ROOM, SMALL, LARGE = 512, 224, 300
STRIDES = (8, 16, 32)  # px between neighboring places of each of the three maps
OUTPUTS = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES]


def load(weights: Path = WEIGHTS, min_face: int = 20, *, refined: bool = True) -> Callable[[Array], Faces]:
    """A function from a photo to its faces, best first. Threads may share it; one call keeps to one core.

    Args:
        weights: ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo, or a later one of its kind.
        min_face: faces whose longer side is shorter are dropped, in pixels of the photo.
        refined: whether landmarks are measured again; else they are YuNet's own.

    Raises:
        UserError: no such file, or not a YuNet.
    """
    import onnx  # noqa: F401  # a package that can't be imported is no fault of the file
    import onnxruntime  # noqa: F401

    if not weights.is_file():
        raise UserError(f"{weights}: no such file; leave --weights out to use the YuNet that comes with facekd")
    try:
        session = _session(weights)
        _look(np.zeros((32, 32, 3), np.uint8), session)
    except Exception as error:  # the parser's, ONNX Runtime's and our own: nothing of it is a YuNet
        raise UserError(
            f"{weights}: not a YuNet that ONNX Runtime can run; give face_detection_yunet_2023mar.onnx of OpenCV's "
            "model zoo, or leave --weights out"
        ) from error
    refine = load_refiner() if refined else None

    def detect_one(photo: Array) -> Faces:
        boxes, scores, landmarks = _found(session, photo, min_face)
        if refine is not None and len(boxes):
            landmarks = refine(photo, boxes, landmarks)
        return Faces(boxes, scores, landmarks)

    return detect_one


def _session(weights: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` that takes BGR float32[1, 3, h, w], 0..255, h and w multiples of 32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the cores work on different photos
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would keep a plan for every size of photo ever seen
    options.log_severity_level = 4  # what is wrong with a file is said once, by `load`
    return onnxruntime.InferenceSession(_of_any_size(weights), options, providers=["CPUExecutionProvider"])


def _of_any_size(weights: Path) -> bytes:
    """The file without its fixed input of 640 x 640, which its graph does not need; kept: onnx is slow to import."""
    data = weights.read_bytes()
    key = sha256_bytes(b"YuNet of any size 1\n" + data)[:40]
    if (found := kept(key)) is not None:
        return found[1]
    import onnx

    model = onnx.load_from_string(data)
    del model.graph.value_info[:]
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"places_{output.name}"
    made: bytes = model.SerializeToString()
    keep(key, {}, made)
    return made


def _found(session: Any, photo: Array, min_face: int) -> tuple[Array, Array, Array]:
    """Boxes float32[n, 4], scores float32[n] and landmarks float32[n, 5, 2] in a photo, best first."""
    height, width = photo.shape[:2]
    shrink = min(1.0, max(LONGEST / max(height, width), math.sqrt(PIXELS / (height * width))))
    rows = _look(_resized(photo, shrink), session, photo.shape)
    if min(height, width) * shrink > ROOM:
        close = _look(_resized(photo, SMALL / min(height, width)), session, photo.shape)
        close = close[(close[:, 2:4] - close[:, :2]).max(axis=1) * shrink >= LARGE]
        rows = np.concatenate([rows, close])
    rows = rows[nms(rows[:, :4], rows[:, 14], OVERLAP)]
    rows = rows[(rows[:, 2:4] - rows[:, :2]).max(axis=1, initial=0) >= min_face]
    return rows[:, :4], rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2)


def _resized(photo: Array, factor: float) -> Array:
    if factor >= 1:
        return photo
    height, width = photo.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))


def _look(pixels: Array, session: Any, shape: tuple[int, ...] | None = None) -> Array:
    """float32[n, 15]: x1 y1 x2 y2, five points, score, of all that YuNet takes for a face; nothing is suppressed yet.

    Args:
        pixels: uint8[h, w, 3] RGB, the photo or a smaller copy.
        shape: of the photo, in whose pixels the answer is.
    """
    height, width = pixels.shape[:2]
    padded = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
    padded[0, :, :height, :width] = pixels[:, :, ::-1].transpose(2, 0, 1)
    maps = session.run(OUTPUTS, {"input": padded})
    rows = []
    for place, stride in enumerate(STRIDES):
        is_face, is_object, box, points = (maps[place + 3 * kind][0] for kind in range(4))
        product = is_face[:, 0] * is_object[:, 0]
        hits = np.flatnonzero(product >= SCORE**2)
        row, column = np.divmod(hits, padded.shape[3] // stride)
        # YuNet names its points from the person's side: the "right" eye and mouth corner come first, which are those
        # on the picture's left.
        cell = np.stack([column, row], axis=1).astype(np.float32)
        middle, half = (cell + box[hits, :2]) * stride, np.exp(box[hits, 2:]) * (stride / 2)
        at = ((points[hits].reshape(-1, 5, 2) + cell[:, None]) * stride).reshape(-1, 10)
        rows.append(np.concatenate([middle - half, middle + half, at, np.sqrt(product[hits])[:, None]], axis=1))
    found = np.concatenate(rows).astype(np.float32)
    if shape is not None:
        found[:, :14] *= np.tile(np.array([shape[1] / width, shape[0] / height], np.float32), 7)
    return found

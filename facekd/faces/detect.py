"""The detectors behind one call: photos in, the faces of each out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from facekd.core.suggest import nearest
from facekd.core.types import Array, Faces
from facekd.errors import UserError

NAMES = ("mtcnn", "facenet", "yunet")

# One Faces for each photo, in order. A photo is uint8[H, W, 3] RGB of any size of at least 1x1, and sizes may
# differ. No face is an answer, not an error. A photo's faces don't depend on the other photos of the call.
Detect = Callable[[Sequence[Array]], list[Faces]]


def load_detector(name: str, *, min_face: int = 20, weights: Path | None = None, threads: int | None = None) -> Detect:
    """The detector called `name`, ready to run; each worker loads its own.

    Args:
        name: ``mtcnn`` (facenet-pytorch's networks, driven by facekd), ``facenet`` (facenet-pytorch itself) or
            ``yunet`` (OpenCV).
        min_face: smallest face looked for, in pixels.
        weights: YuNet's ONNX file; the others carry theirs.
        threads: cores it may use; None leaves the libraries' own choice.

    Raises:
        UserError: an unknown name, or weights that are missing or not wanted.
    """
    if name not in NAMES:
        raise UserError(f"--detector {name}: no such detector{nearest(name, NAMES)}")
    if min_face < 1:
        raise UserError(f"smallest face of {min_face} pixels: use 20, or more to be faster")
    if name == "yunet":
        from facekd.faces import yunet

        if weights is None:
            raise UserError(
                "--detector yunet needs its weights: give the path of face_detection_yunet_2023mar.onnx "
                "(OpenCV's model zoo), or use --detector mtcnn, which carries its own"
            )
        return yunet.load(weights, min_face, threads)
    if weights is not None:
        raise UserError(f"--detector {name} carries its own weights; leave {weights} out or use --detector yunet")
    if name == "facenet":
        from facekd.faces import facenet

        return facenet.load(min_face, threads)
    from facekd.faces import mtcnn

    return mtcnn.load(min_face, threads)

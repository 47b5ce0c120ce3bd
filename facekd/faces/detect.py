"""The detectors behind one call: photos in, the faces of each out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from facekd.core.extras import told_of_missing
from facekd.core.files import sha256_file
from facekd.core.process import set_torch_threads
from facekd.core.suggest import nearest
from facekd.core.system import cores
from facekd.core.types import Array, Faces
from facekd.errors import UserError

NAMES = ("yunet", "mtcnn", "facenet")

# One Faces for each photo, in order. A photo is uint8[H, W, 3] RGB of any size of at least 1x1, and sizes may
# differ. No face is an answer, not an error. A photo's faces don't depend on the other photos of the call.
Detect = Callable[[Sequence[Array]], list[Faces]]


def load_detector(name: str, *, min_face: int = 20, weights: Path | None = None, threads: int | None = None) -> Detect:
    """The detector called `name`, ready to run; each worker loads its own.

    Args:
        name: ``yunet``, ``mtcnn`` (facenet-pytorch's networks, driven by facekd) or ``facenet`` (facenet-pytorch
            itself).
        min_face: smallest face looked for, in pixels.
        weights: another ONNX file of YuNet's than the one that comes with facekd; the others carry theirs.
        threads: cores it may use; None: all that this process may use.

    Raises:
        UserError: an unknown name, or weights that are wrong or not wanted.
    """
    if name not in NAMES:
        raise UserError(f"--detector {name}: no such detector{nearest(name, NAMES)}")
    if min_face < 1:
        raise UserError(f"smallest face of {min_face} pixels: use 20, or more to be faster")
    if name == "yunet":
        from facekd.faces import yunet

        return _each(yunet.load(weights or yunet.WEIGHTS, min_face), threads)
    if weights is not None:
        raise UserError(f"--detector {name} carries its own weights; leave {weights} out or use --detector yunet")
    with told_of_missing(f"--detector {name}"):
        if name == "facenet":
            from facekd.faces import facenet

            detect_one = facenet.load(min_face)
            if threads is not None:
                set_torch_threads(threads)  # it spreads one photo over the cores
            return _each(detect_one, 1)
        from facekd.faces import mtcnn

        return _each(mtcnn.load(min_face), threads)


def weights_digest(name: str, weights: Path | None = None) -> str | None:
    """SHA-256 of what a detector's faces and landmarks depend on beside facekd's version; None where it is a package.

    Of ``yunet`` it covers its own file and the refiner's.
    """
    if name != "yunet":
        return None
    from facekd.faces import refine, yunet

    own = sha256_file(weights or yunet.WEIGHTS)
    return hashlib.sha256(f"{own} {sha256_file(refine.WEIGHTS)}".encode()).hexdigest()


def _each(detect_one: Callable[[Array], Faces], threads: int | None) -> Detect:
    """`detect_one` over many photos, `threads` of them at once."""
    if threads is None:
        threads = cores()
    if threads == 1:
        return lambda photos: [detect_one(photo) for photo in photos]
    pool = ThreadPoolExecutor(threads, "detect")
    return lambda photos: list(pool.map(detect_one, photos))

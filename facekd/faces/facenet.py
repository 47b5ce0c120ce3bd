"""facenet-pytorch's own MTCNN: the reference that our driver of the same networks is tested against.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint face detection and alignment using multitask cascaded
convolutional networks", IEEE Signal Processing Letters 23(10), 2016.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facekd.core.types import Array, Faces
from facekd.faces.torchvision_cpu import repair


def load(min_face: int = 20) -> Callable[[Array], Faces]:
    """A function from a photo to its faces, largest first, by ``facenet_pytorch.MTCNN.detect(landmarks=True)``.

    One photo at a time, because it refuses photos of unequal sizes and its answer for one photo depends on
    the others in its batch.

    Args:
        min_face: smallest face looked for, in pixels.
    """
    repair()
    import torch
    from facenet_pytorch import MTCNN

    network = MTCNN(min_face_size=min_face, keep_all=True, device=torch.device("cpu"))

    def detect_one(photo: Array) -> Faces:
        # Its pyramid has no level below 12 / min_face of the photo, and it fails on an empty list of levels;
        # where no candidate passes the first network it fails too (its issue #47). Both mean: no face.
        if min(photo.shape[:2]) * 12 / min_face < 12:
            return Faces.none()
        boxes, scores, landmarks = network.detect(photo, landmarks=True)
        if boxes is None:
            return Faces.none()
        return Faces(boxes.astype(np.float32), scores.astype(np.float32), landmarks.astype(np.float32))

    return detect_one

"""From a photo to a 112 x 112 crop: YuNet finds the face and its five points, a similarity lays them on the template.

    pip install opencv-python-headless
    python align.py photo.jpg crop.png facekd/weights/face_detection_yunet_2023mar.onnx

What align.js, align.cpp and Align.kt do too, line by line. facekd measures YuNet's points again (mtcnn_onet.onnx), as
../web/detector.js does; crops by YuNet's own points work as well, but not to the last digit.
"""

import sys

import cv2
import numpy as np

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def detect(photo, weights):
    """float32[n, 15] of uint8[H, W, 3] BGR, best first: x y w h, five points (x, y), the score."""
    height, width = photo.shape[:2]
    return cv2.FaceDetectorYN.create(weights, "", (width, height), 0.7, 0.3, 5000).detect(photo)[1]


def similarity(points):
    """float64[2, 3], photo -> crop: turn, scale and shift that lay five points on the template by least squares."""
    middle, target = points.mean(axis=0), TEMPLATE.mean(axis=0)
    s, t = points - middle, TEMPLATE - target
    a, b = (s * t).sum(), (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()
    turn = np.array([[a, -b], [b, a]]) / (s**2).sum()
    return np.column_stack([turn, target - turn @ middle])


def warp(photo, matrix):
    """uint8[112, 112, 3]: the photo through the matrix, black beyond the edge."""
    inverse = cv2.invertAffineTransform(matrix)
    block = int(np.hypot(*inverse[:, 0]) + 1e-9)
    if block > 1:  # averaged down by whole blocks of what the crop sees, so that every pixel counts
        corners = inverse @ np.array([[0, 112, 0, 112], [0, 0, 112, 112], [1, 1, 1, 1]])
        limit = np.array(photo.shape[1::-1])
        start = np.clip(np.floor(corners.min(axis=1)).astype(int) - block, 0, limit - 1)
        count = (np.minimum(np.ceil(corners.max(axis=1)).astype(int) + block, limit) - start) // block
        part = photo[start[1] : start[1] + count[1] * block, start[0] : start[0] + count[0] * block]
        photo = cv2.resize(part, count.tolist(), interpolation=cv2.INTER_AREA)
        matrix = np.column_stack([matrix[:, :2] * block, matrix @ [*(start + (block - 1) / 2), 1]])
    return cv2.warpAffine(photo, matrix, (112, 112), flags=cv2.INTER_LINEAR)


if __name__ == "__main__":
    picture = cv2.imread(sys.argv[1])
    found = detect(picture, sys.argv[3])
    if found is None:
        sys.exit("no face was found")
    cv2.imwrite(sys.argv[2], warp(picture, similarity(found[0, 4:14].reshape(5, 2).astype(np.float64))))

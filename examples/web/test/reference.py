"""Photos of people who do not exist, and facekd's own numbers of them, for the tests of the page.

python test/reference.py FOLDER [PHOTO...]     # writes FOLDER/reference.json; with photos, of these alone
"""

import base64
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from facekd.deploy.embedder import CropEmbedder
from facekd.faces.align import align_face, choose
from facekd.faces.detect import Detect, load_detector
from facekd.photos.decode import decode
from facekd.photos.synth import person, render

MODELS = Path(__file__).parents[1] / "models"


def draw(folder: Path) -> list[Path]:
    """One person twice, another one, both, large photos, a JPEG, the same turned by its EXIF, one without a face."""
    one, again, other = (render(person(3, who), 0, photo).pixels for who, photo in ((1, 0), (1, 1), (2, 0)))
    height = max(len(one), len(other))
    two = np.hstack([np.pad(photo, ((0, height - len(photo)), (0, 0), (0, 0)), "edge") for photo in (other, one)])
    pictures = {"one.png": one, "again.png": again, "other.png": other, "two.png": two}
    for name, side in (("large.png", 900), ("huge.png", 2600)):
        pictures[name] = cv2.resize(one, (side, side * one.shape[0] // one.shape[1]), interpolation=cv2.INTER_CUBIC)
    pictures["photo.jpg"] = again
    pictures["none.png"] = np.full((240, 320, 3), (90, 120, 160), np.uint8)
    for name, pixels in pictures.items():
        cv2.imwrite(str(folder / name), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    jpeg = (folder / "photo.jpg").read_bytes()
    turned = (
        b"\xff\xe1\x00\x22Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06"
        + bytes(6)
    )
    (folder / "turned.jpg").write_bytes(jpeg[:2] + turned + jpeg[2:])
    return [folder / name for name in (*pictures, "turned.jpg")]


def numbers(path: Path, detect: Detect, embedder: CropEmbedder) -> dict[str, object]:
    photo = decode(path.read_bytes(), path.name)
    faces = detect([photo.pixels])[0]
    found: dict[str, object] = {
        "name": path.name,
        "pixels": base64.b64encode(photo.pixels.tobytes()).decode() if photo.pixels.size < 10**6 else None,
        "size": photo.pixels.shape[1::-1],
        "boxes": faces.boxes.tolist(),
        "scores": faces.scores.tolist(),
        "points": faces.landmarks.tolist(),
    }
    for place in choose(faces, photo.pixels.shape[:2], "best"):
        crop = align_face(photo, faces.boxes[place], faces.landmarks[place])
        found["best"] = place
        found["matrix"] = crop.matrix.ravel().tolist()
        found["crop"] = base64.b64encode(crop.pixels.tobytes()).decode()
        found["embedding"] = embedder.embed(crop.pixels[None])[0].tolist()
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    paths = [Path(name) for name in sys.argv[2:]] or draw(folder)
    detect, embedder = load_detector("yunet"), CropEmbedder.load(MODELS / "student.onnx")
    rows = [numbers(path, detect, embedder) for path in paths]
    (folder / "reference.json").write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

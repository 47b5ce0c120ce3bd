"""The contact sheet of ``facekd align --show``: photos with what was found in them, beside their crops."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from facekd.core.pixels import decode_crop, encode_crop
from facekd.core.run import environment
from facekd.core.types import Array
from facekd.crops.records import FAILED, AlignedCrop, PhotoRecord
from facekd.crops.store import LEDGER, CropStore
from facekd.photos.decode import BadPhotoError, decode
from facekd.photos.find import PhotoFile, read_bytes
from facekd.reports.document import Picture, Pictures, Repeat, Section, write_html

HEIGHT, WIDTH = 224, 336  # pixels a photo may take
CROPS = 4  # crops of one photo that are shown
CHOSEN, OTHER, POINT = (0, 200, 80), (240, 160, 0), (255, 40, 40)  # RGB


def write_sheet(files: Sequence[PhotoFile], store: CropStore, count: int) -> None:
    """Write ``show.html`` into the store: `count` each of the first photos, the failures and the least certain.

    It holds faces, so only its owner can read it.
    """
    place = {file.source: file for file in files}
    table, lying = store.mapped()
    known = table.drop_columns(["image"]).take(lying).to_pylist()
    crops = {row["crop_id"]: AlignedCrop(**row, image=b"") for row in known}
    lies = {row["crop_id"]: int(number) for row, number in zip(known, lying, strict=True)}
    rows = [PhotoRecord(**row) for row in store.ledger().select(LEDGER.names).to_pylist() if row["source"] in place]
    for row in rows:
        row.crops = [crops[crop] for crop in row.crop_ids if crop in crops]
    good = [row for row in rows if row.status == "ok"]
    failed = [row for row in rows if row.status in FAILED]
    doubtful = sorted(good, key=lambda row: min(crop.score for crop in row.crops))

    def pictures(kind: str, chosen: list[PhotoRecord], total: int, lowest_first: bool = False) -> Pictures:
        items = []
        for row in chosen:
            if lowest_first:
                row.crops.sort(key=lambda crop: crop.score)
            # Of the images only those that are shown are read.
            images = [table["image"][lies[crop.crop_id]].as_py() for crop in row.crops[:CROPS]]
            items.append(Picture(encode_crop(_panel(place[row.source], row, images)), _label(row)))
        return Pictures(f"{len(items)} of {total} {kind}.", tuple(items))

    sections = (
        Section("The first", (pictures("photos, in the order of their names", rows[:count], len(rows)),)),
        Section("Failures", (pictures("photos that gave no crop", failed[:count], len(failed)),)),
        Section(
            "The least certain",
            (pictures("photos, lowest score first", doubtful[:count], len(good), lowest_first=True),),
        ),
    )
    write_html(
        store.folder / "show.html",
        title="Aligned photos",
        lead=f"{len(good)} of {len(rows)} photos gave a crop of their own, {len(failed)} failed. "
        "Green: a face that became a crop; orange: another face; red: landmarks.",
        sections=sections,
        repeat=Repeat((f"facekd align --resume {store.folder}",), environment()),
    )


def _label(row: PhotoRecord) -> str:
    words = [row.source, row.status, *filter(None, [row.reason])]
    if row.turned:
        words.append(f"turned by {row.turned}°")
    for crop in row.crops[:CROPS] if row.status == "ok" else []:
        angles = ", ".join(f"{angle} {np.degrees(getattr(crop, angle)):+.0f}°" for angle in ("yaw", "pitch", "roll"))
        words.append(f"score {crop.score:.2f}, eyes {crop.eyes:.0f} px, sharpness {crop.quality:.0f}, {angles}")
    if len(row.crops) > CROPS:
        words.append(f"{len(row.crops) - CROPS} more crops")
    return " · ".join(words)


def _panel(file: PhotoFile, row: PhotoRecord, images: list[bytes]) -> Array:
    """uint8[HEIGHT, W, 3]: the photo, shrunk to fit, with its boxes and landmarks, and its crops beside it."""
    pixels, scale = _photo(file)
    for place, box in enumerate(row.boxes or []):
        corners = np.round(np.array(box) * scale).astype(int).tolist()
        cv2.rectangle(pixels, corners[:2], corners[2:], CHOSEN if place in row.chosen else OTHER, 2)
    for crop in row.crops if row.status == "ok" else []:
        for point in np.array(crop.landmarks).reshape(5, 2):
            middle = np.round((point + 0.5) * scale - 0.5).astype(int).tolist()
            cv2.circle(pixels, middle, 2, POINT, -1, cv2.LINE_AA)
    tiles = [pixels]
    for image in images:
        tile = decode_crop(image)
        side = min(HEIGHT, tile.shape[0])
        tile = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
        tiles.append(cv2.copyMakeBorder(tile, 0, HEIGHT - side, 4, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.hstack(tiles)


def _photo(file: PhotoFile) -> tuple[Array, float]:
    """The photo fitted into WIDTH x HEIGHT, white below it, and its scale; a gray square where it can't be read."""
    try:
        photo = decode(read_bytes(file), file.source).pixels
    except (OSError, BadPhotoError):
        return np.full((HEIGHT, HEIGHT, 3), 200, np.uint8), 1.0
    height, width = photo.shape[:2]
    scale = min(HEIGHT / height, WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.copyMakeBorder(small, 0, HEIGHT - size[1], 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)), scale

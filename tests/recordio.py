"""insightface's .rec sets, written as dmlc's RecordIO and mxnet's IRHeader say, byte by byte."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

MAGIC = struct.pack("<I", 0xCED7230A)


def record(payload: bytes) -> bytes:
    """dmlc's writer: wherever the magic word stands at a multiple of four, the payload is split and it is left out."""
    places = [i for i in range(0, len(payload) - 3, 4) if payload[i : i + 4] == MAGIC]
    bounds = [0, *places, len(payload)]
    pieces = [payload[a + (4 if a in places else 0) : b] for a, b in itertools.pairwise(bounds)]
    written = b""
    for number, piece in enumerate(pieces):
        kind = 0 if len(pieces) == 1 else 1 if number == 0 else 3 if number == len(pieces) - 1 else 2
        written += MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return written


def header(*labels: float, key: int = 0) -> bytes:
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], key, 0)
    return struct.pack("<IfQQ", len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels)


def write_set(folder: Path, images: list[bytes], labels: list[tuple[float, ...]], people: int = 2) -> Path:
    """A set as insightface writes it: a first record of two numbers, the images, a record for each person."""
    payloads = [header(len(images) + 1, len(images) + 1 + people)]
    payloads += [header(*label, key=i) + image for i, (image, label) in enumerate(zip(images, labels, strict=True), 1)]
    payloads += [header(1, len(images) + 1) for _ in range(people)]
    folder.mkdir(exist_ok=True)
    lines, data = [], b""
    for key, payload in enumerate(payloads):
        lines.append(f"{key}\t{len(data)}\n")
        data += record(payload)
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text("".join(lines))
    return folder

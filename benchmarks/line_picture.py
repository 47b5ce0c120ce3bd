"""The picture of the README: a photo, its crop, teacher and student, and what they tell apart, of a real quickstart.

    facekd quickstart --out runs/quickstart
    python benchmarks/line_picture.py runs/quickstart      # a minute; writes docs/pictures/line.svg

The people are drawn (`facekd synth`), so the picture shows nobody.
"""

from __future__ import annotations

import argparse
import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from _picture import framed
from PIL import Image

from facekd.commands.quickstart import FARS, HELD_OUT, MODELS, STUDENT_NET, TEACHER_NET
from facekd.core.files import write_text
from facekd.crops.store import CropStore
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.quickstart import TITLES, judge_all
from facekd.reports import plots

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "line.svg"
WIDTH, HEIGHT, SIDE, CROP = 1010, 320, 190, 112
NAMES = ("teacher", "student", "student_alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished quickstart without --photos")
    parser.add_argument("--seed", type=int, default=0, help="of that quickstart")
    given = parser.parse_args()
    write_text(OUT, picture(given.run, given.seed) + "\n")
    print(f"written: {OUT}, {OUT.stat().st_size / 1000:.0f} kB")


def picture(run: Path, seed: int) -> str:
    """The whole line as SVG."""
    held = read_training_crops([run / "crops"], HELD_OUT, seed).held
    models = {name: CropEmbedder.load(run / MODELS[name]) for name in NAMES}
    judged, gap = judge_all(run, models, held, FARS, seed, quiet=True)
    curves = {TITLES[one.name]: one.curve for one in judged}
    bands = {TITLES[one.name]: one.rates.roc for one in judged}
    roc = plots.roc(curves, bands)
    people = len(set(held.identities))
    counts = {name: model.network.parameters for name, model in models.items()}
    photo, box, crop = _face(run, held.sources[0])
    tar = {one.name: next(rate.tar for rate in one.rates.tar if rate.far_asked == gap.far_asked) for one in judged}
    parts = [
        _label(10, 30, "photo"),
        _image(photo, 10, 60, SIDE),
        f'<rect x="{10 + box[0]:.0f}" y="{60 + box[1]:.0f}" width="{box[2] - box[0]:.0f}" '
        f'height="{box[3] - box[1]:.0f}" style="fill: none; stroke: var(--series-3); stroke-width: 2.5"/>',
        _arrow(206, 155, 232),
        _label(240, 30, "crop"),
        _image(crop, 240, 99, CROP),
        _note(240, 230, f"{CROP} × {CROP}, aligned"),
        _arrow(360, 155, 386),
        _label(394, 30, "teacher and student"),
        _box(394, 60, "1", f"teacher: {TEACHER_NET}", f"{counts['teacher'] / 1e6:.2f} M parameters"),
        _arrow(500, 129, 500, down=178),
        _note(510, 158, "embeddings, logits"),
        _box(394, 186, "2", f"student: {STUDENT_NET}", f"{counts['student'] / 1e6:.2f} M parameters"),
        _note(394, 270, "one ONNX file"),
        _arrow(626, 155, 652),
        _label(664, 30, f"judged on {people} people whom nobody saw"),
        roc.replace("<svg ", '<svg x="656" y="40" width="350" height="272" ', 1),
    ]
    shown = ", ".join(f"{TITLES[name]} {100 * (tar[name] or 0):.0f} %" for name in NAMES)
    text = f"TAR at FAR {gap.far_asked:g}: {shown}"
    whole = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(text, quote=True)}">{"".join(parts)}</svg>'
    return framed(whole, "From photos of people to a small network that tells them apart")


def _face(run: Path, source: str) -> tuple[bytes, list[float], bytes]:
    """A drawn photo as a small JPEG, the face's box in it, and its crop."""
    table = CropStore.open(run / "crops").crops()
    row = next(row for row in table.to_pylist() if row["source"] == source)
    found = next((run / "synth" / "photos").glob(f"**/{source.split('/')[-2]}/{source.split('/')[-1]}"))
    photo = Image.open(found).convert("RGB")
    scale = SIDE / max(photo.size)
    box = [float(value) * scale for value in np.asarray(row["box"], float)]
    return _jpeg(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)), box, row["image"]


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data.getvalue()


def _image(data: bytes, x: int, y: int, side: int) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data[:4] == b"RIFF" else "jpeg"
    text = base64.b64encode(data).decode()
    return f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="data:image/{kind};base64,{text}"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" style="font: {style}">{escape(text)}</text>'


def _label(x: int, y: int, text: str) -> str:
    return _text(x, y, text, "600 14px system-ui, sans-serif; fill: var(--ink)")


def _note(x: int, y: int, text: str) -> str:
    return _text(x, y, text, "12px system-ui, sans-serif; fill: var(--quiet)")


def _box(x: int, y: int, series: str, name: str, about: str) -> str:
    rect = f'<rect x="{x}" y="{y}" width="224" height="66" rx="8" '
    style = f"fill: var(--shade); stroke: var(--series-{series}); stroke-width: 2"
    title = _text(x + 10, y + 27, name, "600 12px system-ui, sans-serif; fill: var(--ink)")
    return f'{rect}style="{style}"/>{title}{_note(x + 10, y + 48, about)}'


def _arrow(x: int, y: int, to: int, down: int | None = None) -> str:
    line = f"M {x} {y} L {to} {y}" if down is None else f"M {x} {y} L {x} {down}"
    head = (
        f"M {to - 6} {y - 5} L {to} {y} L {to - 6} {y + 5}"
        if down is None
        else f"M {x - 5} {down - 6} L {x} {down} L {x + 5} {down - 6}"
    )
    return f'<path d="{line} {head}" style="fill: none; stroke: var(--quiet); stroke-width: 2"/>'


if __name__ == "__main__":
    main()

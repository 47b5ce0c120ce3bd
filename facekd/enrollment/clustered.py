"""What a clustering leaves: a list to fill names into, and from the names a list to enroll and crops to train on."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.files import LOCK, atomic_write, unquoted, write_csv
from facekd.crops.columns import read_csv
from facekd.crops.cropset import CropSet
from facekd.enrollment.clusters import Clusters
from facekd.enrollment.unnamed import Gathered
from facekd.errors import UserError
from facekd.photos.find import printable
from facekd.photos.listed import DELIMITERS, PERSON, PHOTO

PEOPLE, SHEET, LIST, TRAIN, ALIGNED = "people.csv", "clusters.html", "named.csv", "named.parquet", "crops"
OURS = {PEOPLE, SHEET, LIST, TRAIN, ALIGNED, "run.yaml", "environment.json"}
COLUMNS = ("cluster", "name", "score", "photo", "crop")
LEFT_OUT = "-"  # a name that says: this face belongs to nobody
ROWS = 1024  # crops written together


@dataclass(frozen=True, slots=True)
class ListedFace:
    """A line of people.csv."""

    cluster: str
    name: str
    photo: str
    crop: str


@dataclass(frozen=True, slots=True)
class NamedFace:
    """A face and whose it is."""

    person: str
    photo: str
    crop: str


def open_folder(out: Path) -> None:
    """Make the folder of a clustering, for its owner only.

    Raises:
        UserError: other things lie there.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = sorted(
            path.name for path in out.iterdir() if path.name not in (*OURS, LOCK) and not path.name.startswith(".")
        )
        if others:
            raise UserError(f"{out}: holds other things ({others[0]!r}, {len(others)} in all); give an empty --out")
        out.chmod(0o700)
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror}); give another --out") from error


def refuse_names(out: Path) -> None:
    """Pass where no name has been filled into the list that would be written anew.

    Raises:
        UserError: one has.
    """
    if (out / PEOPLE).exists() and any(row.name for row in read_rows(out / PEOPLE)):
        raise UserError(f"{out / PEOPLE}: names are filled in; use them with --names, or give another --out")


def write_people(path: Path, faces: Gathered, found: Clusters) -> None:
    """A line for each face, cluster by cluster, the surest of each first."""
    score = [0.0 if math.isnan(value) else -float(value) for value in found.scores]
    order = sorted(range(len(score)), key=lambda row: (found.clusters[row], score[row], faces.embeddings.ids[row]))
    rows = (
        [
            str(found.clusters[row]),
            "",
            "" if math.isnan(found.scores[row]) else f"{found.scores[row]:.4f}",
            printable(faces.sources[row]),
            printable(faces.embeddings.ids[row]),
        ]
        for row in order
    )
    write_csv(path, COLUMNS, rows)


def read_rows(path: Path) -> list[ListedFace]:
    """The lines of a people.csv, also after a spreadsheet has saved it.

    Raises:
        UserError: no such file, or not such a list.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            columns = read_csv(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable ({error}); give the people.csv, saved as UTF-8") from error
    missing = [name for name in COLUMNS if name != "score" and name not in columns]
    if missing:
        header = ",".join(columns)
        sign = next((words for sign, words in DELIMITERS.items() if sign in header), "")
        why = f"it is parted by {sign}: save it parted by commas" if sign else "give the people.csv that cluster wrote"
        raise UserError(f"{path}: has no column {missing[0]}; {why}")
    values = zip(*(columns[name] for name in ("cluster", "name", "photo", "crop")), strict=True)
    rows = [
        ListedFace(cluster, unicodedata.normalize("NFC", unquoted(name).strip()), unquoted(photo), unquoted(crop))
        for cluster, name, photo, crop in values
    ]
    twice = [crop for crop, count in Counter(row.crop for row in rows).items() if count > 1]
    if twice:
        raise UserError(f"{path}: crop {printable(twice[0])} stands there twice; leave one of the lines out")
    return rows


def named_faces(path: Path, rows: Sequence[ListedFace], unnamed: bool) -> list[NamedFace]:
    """Whose each face is: one name in a cluster is everybody's there who has none; ``-`` leaves a face out.

    Args:
        path: where the rows come from, for the sentence.
        unnamed: take the clusters without any name too, as ``cluster-NUMBER``.

    Raises:
        UserError: a cluster with several names and lines without one, or nobody with a name.
    """
    clusters: dict[str, list[ListedFace]] = {}
    for row in rows:
        clusters.setdefault(row.cluster, []).append(row)
    found = []
    for number, own in clusters.items():
        names = sorted({row.name for row in own} - {"", LEFT_OUT})
        if len(names) > 1 and any(not row.name for row in own):
            raise UserError(
                f"{path}: cluster {printable(number)} has {len(names)} names and lines without one; "
                f"give each of its lines a name, or {LEFT_OUT} where it is nobody"
            )
        if not names and unnamed and len(own) > 1:
            names = [f"cluster-{number}"]
        found += [NamedFace(row.name or names[0], row.photo, row.crop) for row in own if names and row.name != LEFT_OUT]
    if not found:
        raise UserError(f"{path}: no name is filled in; write one into a line of each cluster that has one")
    return found


def write_list(path: Path, named: Sequence[NamedFace], rows: Sequence[ListedFace]) -> int:
    """Write the list that 'facekd enroll' takes; how many faces are not in it.

    Enrolling looks for the face in the photo anew, so a photo of several faces would be anybody's: it is left out.
    """
    faces_in = Counter(row.photo for row in rows)
    alone = [one for one in named if faces_in[one.photo] == 1]
    # Not as `write_csv`: what reads it takes each value as it stands.
    with atomic_write(path) as file:
        file.write(_csv([(PERSON, PHOTO), *((one.person, one.photo) for one in alone)]))
    return len(named) - len(alone)


def _csv(rows: Sequence[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def write_training_set(path: Path, named: Sequence[NamedFace], crops: CropSet) -> Iterator[int]:
    """Write crops with identities as Parquet, as --data takes it; yields how many each time some are written.

    Raises:
        UserError: a face that is not among the crops.
    """
    place = {crop_id: row for row, crop_id in enumerate(crops.ids)}
    for one in named:
        if one.crop not in place:
            raise UserError(f"{crops.path}: has no crop {printable(one.crop)}; give the crops that were clustered")
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("identity", pa.string())])
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, compression="none") as writer:
        for start in range(0, len(named), ROWS):
            some = named[start : start + ROWS]
            images = [{"bytes": crops.encoded(place[one.crop]), "path": one.photo} for one in some]
            table = pa.table([pa.array(images, image), pa.array([one.person for one in some])], schema=schema)
            writer.write_table(table)
            yield len(some)

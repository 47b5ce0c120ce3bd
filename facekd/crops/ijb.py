"""IJB-B and IJB-C in the files that the benchmark and insightface's evaluation hand round.

``ijbc_face_tid_mid.txt`` has a line ``photo template media`` for each face, ``ijbc_template_pair_label.txt`` a line
``template template label`` for each comparison, ``ijbc_name_5pts_score.txt`` a line with a photo, ten coordinates of
landmarks and the detector's score. The 1:N files (``ijbc_1N_gallery_G1.csv``, ``_G2``, of IJB-B ``_S1``, ``_S2``, and
``ijbc_1N_probe_mixed.csv``) have a heading with TEMPLATE_ID and SUBJECT_ID and a row for each photo.

Sources: C. Whitelam et al., "IARPA Janus Benchmark-B Face Dataset", CVPRW 2017; B. Maze et al., "IARPA Janus
Benchmark - C: Face Dataset and Protocol", ICB 2018; insightface's recognition/_evaluation_/ijb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from facekd.core.names import NameColumn
from facekd.core.types import Array
from facekd.crops.columns import one_line
from facekd.crops.templates import TemplatePairs, TemplateSet, check_labels, check_persons, check_photos
from facekd.errors import UserError

FACES, PAIRS, SCORES = "_face_tid_mid.txt", "_template_pair_label.txt", "_name_5pts_score.txt"
GALLERY, PROBES = "_1N_gallery_", "_1N_probe_mixed.csv"
POINTS = [f"p{k}" for k in range(10)]  # landmarks, which are not read


def ijb_faces(path: Path) -> Path | None:
    """The list of faces that `path` is, or as a folder holds, alone or in its folder ``meta``; None where none is.

    Raises:
        UserError: a folder with the lists of several benchmarks.
    """
    if path.is_file():
        return path if path.name.endswith(FACES) else None
    found = sorted({file.name: file for folder in (path, path / "meta") for file in folder.glob(f"*{FACES}")}.items())
    if len(found) > 1:
        names = " and ".join(str(file) for _, file in found)
        raise UserError(f"{path}: holds several benchmarks; name one of their lists, {names}")
    return found[0][1] if found else None


def read_ijb(faces: Path) -> TemplateSet:
    """The benchmark whose list of faces is `faces`; its other files lie beside it.

    Pairs are taken as published, repeated ones too; subjects are known where the 1:N files are there.

    Raises:
        UserError: neither pairs nor 1:N files, a gallery without probes or the other way round, a line that is none, a
            photo twice in a template, a template of two subjects, a name that the list of faces lacks, labels other
            than 0 and 1, or pairs that contradict each other or the subjects.
    """
    prefix = faces.name.removesuffix(FACES)
    others = [faces.with_name(prefix + end) for end in (PAIRS, SCORES, PROBES)]
    pair_file, score_file, probe_file = (path if path.is_file() else None for path in others)
    gallery_files = sorted(faces.parent.glob(f"{prefix}{GALLERY}*.csv"))
    if pair_file is None and not gallery_files:
        raise UserError(f"{faces.parent}: holds neither {others[0].name} nor {prefix}{GALLERY}*.csv; copy one there")
    if bool(gallery_files) != (probe_file is not None):
        lacks = others[2].name if gallery_files else f"{prefix}{GALLERY}*.csv"
        raise UserError(f"{faces.parent}: has 1:N files but no {lacks}; copy it there, or leave all of them out")

    table = _lines(faces, {"photo": pa.string(), "template": pa.int32(), "media": pa.int64()})
    photos = NameColumn.of(table["photo"].to_pylist())
    numbers, template = np.unique(table["template"].to_numpy(), return_inverse=True)
    template = template.astype(np.int32)
    ids = tuple(map(str, numbers.tolist()))
    check_photos(faces, ids, template, photos)
    in_set = {path: _subjects(path, numbers, faces) for path in (*gallery_files, *filter(None, [probe_file]))}
    persons = _persons(in_set, ids)
    check_persons(faces, photos, template, persons)
    return TemplateSet(
        name=prefix,
        files=tuple(filter(None, (faces, pair_file, score_file, *gallery_files, probe_file))),
        ids=ids,
        persons=persons,
        photos=photos,
        template=template,
        media=table["media"].to_numpy(),
        quality=None if score_file is None else _scores(score_file, photos),
        pairs=None if pair_file is None else _pairs(pair_file, numbers, faces, persons),
        galleries={path.stem.removeprefix(f"{prefix}{GALLERY}"): np.unique(in_set[path][0]) for path in gallery_files},
        probes=np.zeros(0, np.int32) if probe_file is None else np.unique(in_set[probe_file][0]),
    )


def _pairs(path: Path, numbers: Array, faces: Path, persons: Sequence[str | None]) -> TemplatePairs:
    table = _lines(path, {"left": pa.int32(), "right": pa.int32(), "same": pa.int8()})
    left, right = (_places(path, table[side], numbers, faces) for side in ("left", "right"))
    label = table["same"].to_numpy()
    del table
    wrong = np.flatnonzero((label != 0) & (label != 1))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{path}, line {row + 1}: the label is {label[row]}; 1 is the same person, 0 another")
    same = label == 1
    ids = list(map(str, numbers.tolist()))
    itself = left == right
    if (itself & ~same).any():
        row = int(np.flatnonzero(itself & ~same)[0])
        raise UserError(
            f"{path}, line {row + 1}: says that template {ids[left[row]]} shows another person than itself; correct it"
        )
    _refuse_both_ways(path, ids, left, right, same)
    check_labels(path, ids, persons, left, right, same)
    if not itself.any():
        return TemplatePairs(path, left, right, same, {})
    kept = ~itself
    return TemplatePairs(path, left[kept], right[kept], same[kept], {"itself": int(itself.sum())})


def _refuse_both_ways(path: Path, ids: Sequence[str], left: Array, right: Array, same: Array) -> None:
    key = np.minimum(left, right).astype(np.int64)  # in place from here: it is of sixteen million pairs
    key *= len(ids)
    key += np.maximum(left, right)
    key *= 2
    key += same
    key.sort()
    next_to = np.flatnonzero(np.diff(key) == 1)
    both = next_to[key[next_to] % 2 == 0]  # the same two templates, labeled 0 and then 1
    if len(both):
        a, b = divmod(int(key[both[0]]) // 2, len(ids))
        raise UserError(
            f"{path}: {len(both)} pairs are labeled as same and as different (first: {ids[a]} and {ids[b]}); correct it"
        )


def _scores(path: Path, photos: NameColumn) -> Array:
    """float64[R]: the detector's score of each photo, by its name."""
    kinds = {"photo": pa.string(), **dict.fromkeys(POINTS, pa.float32()), "score": pa.float64()}
    table = _lines(path, kinds)
    score = table["score"].to_numpy()
    wrong = np.flatnonzero(~((score > 0) & (score < np.inf)))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{path}, line {row + 1}: the score is {score[row]}; it weighs a photo, so it has to be over 0")
    names = table["photo"].to_pylist()
    of_photo = dict(zip(names, score.tolist(), strict=True))
    if len(of_photo) < len(names):
        raise UserError(f"{path}: names {len(names) - len(of_photo)} photos more than once; keep one line for each")
    missing = [name for name in photos.distinct if name not in of_photo]
    if missing:
        raise UserError(f"{path}: has no score of {len(missing)} photos (first: {missing[0]!r}); copy it again")
    scores: Array = np.array([of_photo[name] for name in photos.distinct])[photos.codes]
    return scores


def _subjects(path: Path, numbers: Array, faces: Path) -> tuple[Array, Sequence[str]]:
    """The templates of a 1:N file as int32[n], places among `numbers`, and the subject of each."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        heading = [name.strip().strip('"') for name in file.readline().rstrip("\r\n").split(",")]
    at = [k for word in ("TEMPLATE_ID", "SUBJECT_ID") for k, name in enumerate(heading) if name.upper() == word]
    if len(at) != 2:
        raise UserError(f"{path}: its first line does not name TEMPLATE_ID and SUBJECT_ID; copy the file again")
    names = [f"c{k}" for k in range(len(heading))]
    template, subject = (names[k] for k in at)
    read = pacsv.ReadOptions(column_names=names, skip_rows=1)
    kinds = {template: pa.int32(), subject: pa.string()}
    convert = pacsv.ConvertOptions(
        column_types=kinds, include_columns=[template, subject], null_values=[], strings_can_be_null=False
    )
    try:
        table = pacsv.read_csv(path, read, None, convert)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as the benchmark's CSV ({one_line(error)}); copy it again") from error
    if len(table) == 0:
        raise UserError(f"{path}: names no template; copy it again")
    subjects = [name.strip() for name in table[subject].to_pylist()]
    if "" in subjects:
        raise UserError(f"{path}, line {subjects.index('') + 2}: names no subject; copy the file again")
    return _places(path, table[template], numbers, faces), subjects


def _persons(in_set: Mapping[Path, tuple[Array, Sequence[str]]], ids: Sequence[str]) -> tuple[str | None, ...]:
    persons: list[str | None] = [None] * len(ids)
    for path, (places, subjects) in in_set.items():
        for place, subject in zip(places.tolist(), subjects, strict=True):
            said = persons[place]
            if said not in (None, subject):
                raise UserError(
                    f"{path}: template {ids[place]} shows two subjects, {said} and {subject}; copy the 1:N files of "
                    "one release"
                )
            persons[place] = subject
    return tuple(persons)


def _places(path: Path, column: pa.ChunkedArray, numbers: Array, faces: Path) -> Array:
    """int32[n]: the place of each template of a column among `numbers`."""
    found = pc.index_in(column, value_set=pa.array(numbers, pa.int32()))
    if found.null_count:
        gone = pc.unique(column.filter(pc.is_null(found)))
        raise UserError(
            f"{path}: {len(gone)} templates are not in {faces.name} (first: {gone[0]}); copy both of one release"
        )
    places: Array = found.to_numpy()
    return places


def _lines(path: Path, kinds: Mapping[str, pa.DataType]) -> pa.Table:
    """A file without heading, its columns parted by spaces, or by tabs."""
    try:
        with open(path, "rb") as file:
            sign = "\t" if b"\t" in file.readline(4096) else " "
        read = pacsv.ReadOptions(column_names=list(kinds))
        # A quote is a character as any other, and no word stands for a missing value.
        parse = pacsv.ParseOptions(delimiter=sign, quote_char=False)
        convert = pacsv.ConvertOptions(column_types=dict(kinds), null_values=[], strings_can_be_null=False)
        table = pacsv.read_csv(path, read, parse, convert)
    except (OSError, pa.ArrowException) as error:
        form = " ".join(kinds) if len(kinds) < 5 else "photo, ten coordinates, score"
        raise UserError(f"{path}: is not lines of '{form}' ({one_line(error)}); copy it again") from error
    if len(table) == 0:
        raise UserError(f"{path}: holds no line; copy it again")
    return table

"""A small set in the files of IJB-C, and what insightface's script makes of them: slow, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.core.contract import Contract
from facekd.core.types import Array, Embeddings
from facekd.deploy.embeddings import Embedded, write_embeddings

DIM = 16


@dataclass(frozen=True, slots=True)
class Face:
    """One line of the list of faces."""

    photo: str
    template: int
    media: int
    subject: int
    score: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A set before it is written."""

    faces: list[Face]
    pairs: list[tuple[int, int, int]]
    galleries: dict[str, list[int]]
    probes: list[int]

    @property
    def subject(self) -> dict[int, int]:
        return {face.template: face.subject for face in self.faces}


def draw(people: int = 40, seed: int = 0) -> Drawn:
    """Each person has an enrolled template of 1 to 4 photos and three probes, some of video frames; half in either
    gallery."""
    rng = np.random.default_rng(seed)
    faces: list[Face] = []
    enrolled, probes = [], []
    for person in range(people):
        for which in range(4):
            template = 7 + 10 * person + which
            (probes if which else enrolled).append(template)
            for medium in range(int(rng.integers(1, 4))):
                for _ in range(int(rng.integers(1, 5)) if which == 2 else 1):
                    number = len(faces) + 1
                    media = 1000 * template + medium
                    faces.append(Face(f"{number}.jpg", template, media, 500 + person, round(rng.uniform(0.1, 1), 3)))
    order = rng.permutation(len(faces))  # a template's lines need not follow each other
    subject = {face.template: face.subject for face in faces}
    pairs = [(left, right, int(subject[left] == subject[right])) for left in enrolled for right in probes]
    rng.shuffle(pairs)
    half = len(enrolled) // 2
    return Drawn([faces[k] for k in order], pairs, {"G1": enrolled[:half], "G2": enrolled[half:]}, probes)


def write(folder: Path, drawn: Drawn, name: str = "ijbc", galleries: Sequence[str] = ("G1", "G2")) -> Path:
    """The set as the benchmark's files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    def put(end: str, lines: Iterable[str]) -> None:
        (folder / f"{name}_{end}").write_text("".join(f"{line}\n" for line in lines))

    put("face_tid_mid.txt", (f"{one.photo} {one.template} {one.media}" for one in drawn.faces))
    points = " ".join(["50.000"] * 10)
    put("name_5pts_score.txt", (f"{one.photo} {points} {one.score}" for one in drawn.faces))
    put("template_pair_label.txt", (f"{a} {b} {same}" for a, b, same in drawn.pairs))
    heading = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"
    sets = {f"gallery_{to}": own for to, own in zip(galleries, drawn.galleries.values(), strict=True)}
    for end, templates in (sets | {"probe_mixed": drawn.probes}).items():
        rows = [f"{one.template},{one.subject},img/{k}.jpg,{k}" for k, one in enumerate(drawn.faces)
                if one.template in templates]  # fmt: skip
        put(f"1N_{end}.csv", [heading, *rows])
    return folder


def embed(drawn: Drawn, seed: int = 1, noise: float = 1.0) -> dict[str, Array]:
    """A unit embedding for each photo, near its person's."""
    rng = np.random.default_rng(seed)
    center = {person: rng.normal(size=DIM) for person in sorted(set(drawn.subject.values()))}
    found = {}
    for face in drawn.faces:
        vector = center[face.subject] + noise * rng.normal(size=DIM)
        found[face.photo] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return found


def save(path: Path, vectors: dict[str, Array]) -> Path:
    """The embeddings as a file of 'facekd embed'."""
    contract = Contract(dim=DIM, size=112)
    embeddings = Embeddings(np.stack(list(vectors.values())), tuple(vectors), contract.model_id)
    write_embeddings(path, [Embedded(embeddings, (None,) * len(vectors), tuple(vectors))], contract)
    return path


def templates_by_hand(drawn: Drawn, vectors: dict[str, Array], how: str) -> dict[int, Array]:
    """Each template's unit vector; photos without a vector are left out, templates without photo are missing."""
    made = {}
    for template in sorted(drawn.subject):
        rows = [face for face in drawn.faces if face.template == template and face.photo in vectors]
        weigh = {face.photo: vectors[face.photo] * (face.score if how == "quality" else 1.0) for face in rows}
        total = np.zeros(DIM)
        if how == "mean":
            total += sum((weigh[face.photo].astype(float) for face in rows), np.zeros(DIM))
        else:
            for medium in sorted({face.media for face in rows}):
                own = [weigh[face.photo].astype(float) for face in rows if face.media == medium]
                total += own[0] if len(own) == 1 else np.mean(own, axis=0)
        if rows:
            made[template] = total / np.sqrt(np.sum(total**2))
    return made


def scores_by_hand(drawn: Drawn, made: dict[int, Array]) -> tuple[Array, Array]:
    values = [float(made[a] @ made[b]) if a in made and b in made else -np.inf for a, b, _ in drawn.pairs]
    return np.array(values), np.array([same == 1 for *_, same in drawn.pairs])


def tar_by_hand(values: Array, same: Array, far: float) -> float | None:
    impostors = sorted(values[~same], reverse=True)
    budget = int(far * len(impostors) + 1e-9)
    if budget < 3:
        return None
    blocking = impostors[budget]  # the best that may not be accepted any more
    return float(np.mean(values[same] > blocking))


def search_by_hand(
    drawn: Drawn, made: dict[int, Array], gallery: Sequence[int]
) -> tuple[list[int], list[float], list[float]]:
    """Rank (0: not found) and own score of each mated probe, best score of each other one; -inf without a template."""
    subject = drawn.subject
    enrolled = {subject[template]: made[template] for template in gallery if template in made}
    intended = {subject[template] for template in gallery}
    ranks, hits, alarms = [], [], []
    for probe in drawn.probes:
        own = subject[probe]
        scores = {who: float(made[probe] @ vector) for who, vector in enrolled.items()} if probe in made else {}
        if own not in intended:
            alarms.append(max(scores.values(), default=-np.inf))
            continue
        rank = sum(score >= scores[own] for score in scores.values()) if own in scores else 0
        ranks.append(rank)
        hits.append(scores[own] if rank == 1 else -np.inf)
    return ranks, hits, alarms

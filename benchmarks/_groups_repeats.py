"""Which of FairFace's men are shown more than once: writes fairface_repeats.txt, which groups.py leaves out.

    python benchmarks/_groups_repeats.py --work DIR [--show FILE.png]

FairFace has no identities, and some men, most of them of public life, are in it up to a hundred times. Two crops of
adult men are taken to show one man where the mean of three networks' cosines, of three makers, is at least CUT: it lies
in the valley between the scores of strangers and those of one man, and the pairs about it were looked at (--show). Of
the crops that so belong together, over any number of pairs, the first stays. Crops of those under twenty stay all:
between children the valley is filled, and what would be left out there are look-alikes. How many of their pairs score
at least CUT is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from _celeba import DATA
from _groups import ADULT, REPEATS, ROWS, People, embedded, men, quick_form

from facekd.core.files import write_text

MAKERS = ("reid_retail_0095", "sface_2021dec", "w600k_mbf")
CUT, AROUND = 0.5, 0.1
HEAD = """# Crops of fairface.parquet that show a man of another crop again, as benchmarks/_groups_repeats.py found them
# among those that benchmarks/groups.py draws; they are left out of its figures.
"""


def main() -> None:
    from groups import PER_CELL, contract_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/groups"))
    parser.add_argument("--show", type=Path, help="a picture of pairs about CUT, to look at")
    given = parser.parse_args()
    people = men(given.data, PER_CELL)
    parts = []
    for name in MAKERS:
        form = quick_form(given.data / "weights" / f"{name}.onnx", contract_of(name, given.work), given.work)
        parts.append(embedded(people, form, given.work))
    vectors = np.concatenate(parts, axis=1) / np.sqrt(len(MAKERS))
    adult = np.isin(people.labels["age"], ADULT)
    pairs, scores = pairs_above(vectors, CUT - AROUND)
    of_adults = adult[pairs].all(axis=1)
    edges = np.arange(CUT - AROUND, 1.01, 0.02)
    for name, chosen in (("adults", of_adults), ("one or both under 20", ~of_adults)):
        print(
            name,
            *(f"{low:.2f}:{count}" for low, count in zip(edges, np.histogram(scores[chosen], edges)[0], strict=False)),
        )
    again = repeats(pairs[of_adults & (scores >= CUT)], len(vectors))
    paths = sorted(people.crops.sources[people.places[place]] for place in np.flatnonzero(again))
    write_text(REPEATS, HEAD + "".join(f"{path}\n" for path in paths))
    young = int((~of_adults & (scores >= CUT)).sum())
    print(
        f"{REPEATS}: {len(paths)} of {int(adult.sum())} adult men; {young} pairs with somebody under 20 score so high"
    )
    if given.show:
        show(people, pairs[of_adults], scores[of_adults], given.show)


def pairs_above(vectors: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """int64[P, 2], pairs of rows in ascending order that score at least `least`, and their scores."""
    found, scores = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for start in range(0, len(vectors), ROWS):
        block = vectors[start : start + ROWS] @ vectors[start:].T
        left, right = np.nonzero(np.triu(block >= least, 1))
        found.append(np.stack([left, right], axis=1) + start)
        scores.append(block[left, right])
    return np.concatenate(found), np.concatenate(scores)


def repeats(pairs: np.ndarray, count: int) -> np.ndarray:
    """bool[count]: rows that belong, over any number of pairs, to an earlier row."""
    first = np.arange(count)
    while True:
        before = first.copy()
        np.minimum.at(first, pairs[:, 1], before[pairs[:, 0]])
        np.minimum.at(first, pairs[:, 0], before[pairs[:, 1]])
        if np.array_equal(first, before):
            return first < np.arange(count)


def show(people: People, pairs: np.ndarray, scores: np.ndarray, path: Path) -> None:
    """A picture with a row of ten random pairs for each hundredth about CUT."""
    rng, rows = np.random.default_rng(0), []
    for low in np.arange(CUT - AROUND, CUT + AROUND, 0.01):
        at = np.flatnonzero((scores >= low) & (scores < low + 0.01))
        row = np.full((112, 10 * 232, 3), 255, np.uint8)
        for place, number in enumerate(rng.permutation(at)[:10]):
            left, right = (people.crops.pixels(int(people.places[one])) for one in pairs[number])
            row[:, 232 * place : 232 * place + 224] = np.hstack([left, right])
        rows.append(row)
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()

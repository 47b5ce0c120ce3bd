"""The terms of a report of pairs or of a search, each in a line."""

from __future__ import annotations

from facekd.reports.document import Section, Table

PAIRS = (
    ("genuine, impostor", "A pair of photos of one person; a pair of photos of two people."),
    ("threshold", "A pair is accepted, as of one person, where its score is at least the threshold."),
    ("FAR, FMR", "The share of impostor pairs accepted: false accept or false match rate, of one comparison."),
    ("TAR, FNMR", "The share of genuine pairs accepted, and missed: TAR = 1 − FNMR (false non-match rate)."),
    ("TAR at FAR", "TAR at the lowest threshold of the list that accepts no more impostor pairs than the FAR allows."),
    ("EER", "The error rate where FMR and FNMR are equal."),
    ("AUC, d′", "How often a genuine pair outscores an impostor pair; the gap of their means in standard deviations."),
    ("FTA, FTE", "Failure to acquire: photos without a face found. Failure to enroll: people without such a photo."),
    ("interval", "Holds the true value in 95 of 100 such lists of other people; pairs that share people say less."),
    ("FPIR", "Not here: how often one search through N people names a stranger; about N times the FMR."),
)
SEARCH = (
    ("mated, unknown", "A probe of a person who is enrolled; a probe of a person who is not."),
    ("rank 1", "The probe's own person scores highest of the gallery."),
    (
        "FPIR",
        "False positive identification rate: the share of unknown probes for whom somebody reaches the threshold.",
    ),
    (
        "TPIR, FNIR",
        "The share of mated probes ranked first at the threshold or above, and of others: TPIR = 1 − FNIR.",
    ),
    ("CMC", "The share of mated probes whose person is among the first 1, 2, … of the gallery."),
    ("FAR, FMR", "Not here: of one comparison. A search makes one with each person enrolled."),
    ("FTA, FTE", "Failure to acquire: photos without a face found. Failure to enroll: people without such a photo."),
    ("distractor", "A photo in the gallery of a person whom no probe shows."),
    ("threshold", "Holds for a gallery of this size: a larger one names more strangers at the same threshold."),
    ("interval", "Holds the true value in 95 of 100 such sets of other people; probes of one person say less."),
)


def glossary(terms: tuple[tuple[str, str], ...]) -> Section:
    """The section that says what the terms mean."""
    return Section("Terms", (Table("What the terms mean", ("term", "meaning"), terms),))

"""What passes between the rooms: frozen, checked once when made.

The senses of all numbers are fixed here. Score = cosine, higher is more alike, accepted when
``score >= threshold``. Rates lie in [0, 1]. Photos and crops are RGB. Boxes are ``x1 y1 x2 y2`` and
points ``(x, y)``, both in pixels. Embeddings are unit-norm float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from facekd.core.names import NameColumn, together
from facekd.errors import UserError

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo, upright: its EXIF orientation has been applied."""

    pixels: Array  # uint8[H, W, 3], RGB
    source: str  # path, or path inside its archive
    sha256: str  # of the file's bytes, 64 hex digits

    def __post_init__(self) -> None:
        assert self.pixels.dtype == np.uint8, self.pixels.dtype
        assert self.pixels.ndim == 3, self.pixels.shape
        assert self.pixels.shape[2] == 3, self.pixels.shape
        assert self.pixels.size > 0, self.source


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces found in one photo; there may be none."""

    boxes: Array  # float32[n, 4], x1 y1 x2 y2
    scores: Array  # float32[n], the detector's own confidence in [0, 1]
    landmarks: Array  # float32[n, 5, 2]: eye on the picture's left, other eye, nose, mouth left, right

    def __post_init__(self) -> None:
        n = len(self.boxes)
        assert self.boxes.shape == (n, 4), self.boxes.shape
        assert self.scores.shape == (n,), self.scores.shape
        assert self.landmarks.shape == (n, 5, 2), self.landmarks.shape

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Faces:
        """No face at all: an answer, not an error."""
        f32 = np.float32
        return cls(np.zeros((0, 4), f32), np.zeros(0, f32), np.zeros((0, 5, 2), f32))


@dataclass(frozen=True, slots=True)
class Crop:
    """A face warped onto the template."""

    pixels: Array  # uint8[S, S, 3], RGB
    matrix: Array  # float64[2, 3], photo -> crop
    crop_id: str
    quality: float  # sharpness, see faces.align.sharpness; higher is better
    detail: float | None  # percent, see faces.detail; None for a small crop

    def __post_init__(self) -> None:
        size = self.pixels.shape[0]
        assert self.pixels.shape == (size, size, 3), self.pixels.shape
        assert self.pixels.dtype == np.uint8, self.pixels.dtype
        assert self.matrix.shape == (2, 3), self.matrix.shape


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors of one model, one for each id.

    Raises:
        UserError: vectors of another type, not finite, not of unit norm, or not one for each id.
    """

    vectors: Array  # float32[N, D], unit norm
    ids: tuple[str, ...]
    model_id: str  # Contract.model_id of the network that made them

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise UserError(
                f"embeddings of shape {self.vectors.shape} for {len(self.ids)} ids: give one row for each id"
            )
        if self.vectors.dtype != np.float32:
            raise UserError(f"embeddings of type {self.vectors.dtype}: give float32")
        norms = np.linalg.norm(self.vectors, axis=1)
        bad = ~(np.abs(norms - 1.0) < 1e-3)  # NaN compares false, so it is bad too
        if bad.any():
            where = self.ids[int(np.flatnonzero(bad)[0])]
            raise UserError(
                f"{int(bad.sum())} of {len(norms)} embeddings are zero, not finite or not of unit norm "
                f"(first: {where}); the model or its contract is wrong for these crops"
            )


@dataclass(frozen=True, slots=True)
class PairList:
    """Which photos or crops are compared, and whether they show the same person.

    Strings are kept as `NameColumn`; any sequence of them is taken. The two sides share their distinct strings, so
    equal codes are the same photo.
    """

    left: NameColumn
    right: NameColumn
    same: Array  # bool[P]
    fold: Array  # int16[P]; -1 where a pair is in no fold
    groups: Mapping[str, NameColumn] = field(default_factory=dict)  # column -> its P values
    persons: tuple[NameColumn, NameColumn] | None = None  # whom each side shows, where the list itself says it

    def __post_init__(self) -> None:
        left, right = together(self.left, self.right)
        groups = {name: NameColumn.of(values) for name, values in self.groups.items()}
        persons = None if self.persons is None else tuple(together(*self.persons))
        for name, value in (("left", left), ("right", right), ("groups", groups), ("persons", persons)):
            object.__setattr__(self, name, value)
        n = len(self.left)
        assert len(self.right) == n, (n, len(self.right))
        assert self.same.shape == (n,), self.same.shape
        assert self.same.dtype == bool, self.same.dtype
        assert self.fold.shape == (n,), self.fold.shape
        assert all(len(one) == n for one in (*self.groups.values(), *(self.persons or ()))), n

    def __len__(self) -> int:
        return len(self.same)

    def photos(self) -> tuple[str, ...]:
        """The names on either side, each once."""
        return NameColumn(self.left.distinct, np.concatenate([self.left.codes, self.right.codes])).used()


@dataclass(frozen=True, slots=True)
class Scores:
    """Compared pairs. A pair of which a photo gave no embedding scores -inf.

    Raises:
        UserError: arrays that are not of one length, other dtypes, or a score that is NaN.
    """

    values: Array  # float32 or float64[P], cosine or -inf
    same: Array  # bool[P]
    left: NameColumn  # any sequence of strings is taken
    right: NameColumn
    fold: Array  # int16[P]; -1 where a pair is in no fold

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            object.__setattr__(self, name, NameColumn.of(getattr(self, name)))
        sides = {len(self.left), len(self.right)}
        if {self.values.shape, self.same.shape, self.fold.shape} | {(n,) for n in sides} != {(len(self.values),)}:
            raise UserError(
                f"scores of shape {self.values.shape} with {len(self.same)} labels, {len(self.fold)} folds and "
                f"{len(self.left)} and {len(self.right)} ids: give one of each for every pair"
            )
        if self.same.dtype != bool or self.values.dtype not in (np.float32, np.float64):
            raise UserError(
                f"scores of {self.values.dtype} with labels of {self.same.dtype}: give float32 or float64, and True "
                "for each pair that shows one person"
            )
        if np.isnan(self.values).any():
            raise UserError("a score is NaN: the embeddings it came from are damaged; embed them again")


@dataclass(frozen=True, slots=True)
class Rate:
    """The true accept rate at one asked false accept rate.

    ``tar`` is None, never a number, when the list holds too few impostor pairs to show ``far_asked``.

    Raises:
        UserError: a rate outside [0, 1].
    """

    far_asked: float
    far: float  # achieved, at most far_asked
    tar: float | None
    threshold: float | None
    n_genuine: int
    n_impostor: int
    low: float | None  # 95 % interval of tar
    high: float | None
    evidence: float | None = field(default=None, kw_only=True)  # independent impostor pairs; None: each pair is one

    def __post_init__(self) -> None:
        for name in ("far_asked", "far", "tar", "low", "high"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:  # NaN too
                raise UserError(f"a rate whose {name} is {value}: rates lie from 0 to 1; count its pairs again")

"""What became of a photo, and the crops that were cut from it, before they are written."""

from __future__ import annotations

from dataclasses import dataclass, field

STATUSES = ("ok", "no_face", "too_small", "unreadable", "too_large", "duplicate")
FAILED = ("no_face", "too_small", "unreadable", "too_large")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedCrop:
    """A crop as it is kept, and where it came from; the fields are the columns of CROPS."""

    crop_id: str
    image: bytes  # empty where it has been used and is not to be kept
    identity: str | None
    source: str
    sha256: str | None
    box: tuple[float, ...]
    landmarks: tuple[float, ...]
    matrix: tuple[float, ...]
    score: float
    quality: float
    eyes: float
    yaw: float
    pitch: float
    roll: float
    detail: float | None = None  # None where it is not known


@dataclass
class PhotoRecord:
    """What became of one photo: its ledger row and its crops."""

    source: str
    identity: str | None
    status: str
    reason: str = ""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    turned: int = 0
    boxes: list[list[float]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    crop_ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    crops: list[AlignedCrop] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status

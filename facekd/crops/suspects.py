"""What an audit doubts: possible label errors, and copies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoubtfulCrop:
    """A crop that is nearer to another person than to its own."""

    crop_id: str
    source: str
    identity: str
    own: float  # cosine to the mean of that person's other crops
    nearest: str  # the other person
    other: float  # cosine to the mean of that one's crops


@dataclass(frozen=True, slots=True)
class CopiedCrop:
    """A crop whose picture is there once more, under the same person."""

    crop_id: str
    source: str
    identity: str
    first: str  # the source of the one that is kept

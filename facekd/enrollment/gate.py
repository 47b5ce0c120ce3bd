"""Which photos are good enough to stand for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facekd.errors import UserError

MIN_EYES, MIN_SCORE, MAX_YAW = 16.0, 0.8, 60.0  # benchmarks/enroll.py --only gate


@dataclass(frozen=True, slots=True)
class Gate:
    """The least quality of a photo for enrolment; None where nothing is asked."""

    min_eyes: float | None = None  # px of the photo between the eyes
    min_score: float | None = None  # the detector's confidence
    max_yaw: float | None = None  # degrees to either side
    min_sharpness: float | None = None  # faces.align.sharpness

    def refuses(self, face: Mapping[str, Any]) -> str:
        """Why a face is not good enough, empty where it is.

        Args:
            face: eyes (px), score, yaw (radians) and quality, as a crop's row has them.
        """
        if self.min_eyes is not None and face["eyes"] < self.min_eyes:
            return f"{face['eyes']:.1f} pixels between the eyes, under {self.min_eyes:g}"
        if self.min_score is not None and face["score"] < self.min_score:
            return f"the detector is sure by {face['score']:.3f}, under {self.min_score:g}"
        yaw = abs(math.degrees(face["yaw"]))
        if self.max_yaw is not None and yaw > self.max_yaw:
            return f"the head is turned by {yaw:.0f} degrees, over {self.max_yaw:g}"
        if self.min_sharpness is not None and face["quality"] < self.min_sharpness:
            return f"sharpness {face['quality']:.1f}, under {self.min_sharpness:g}"
        return ""


def make_gate(
    detector: str,
    min_eyes: float | None,
    min_score: float | None,
    max_yaw: float | None,
    min_sharpness: float | None,
) -> Gate:
    """The gate that was asked for; what was left open takes the measured default, or none where photos are crops.

    Raises:
        UserError: a limit that makes no sense.
    """
    limits = {"min-eyes": min_eyes, "min-score": min_score, "max-yaw": max_yaw, "min-sharpness": min_sharpness}
    for name, value in limits.items():
        if value is not None and not (0 <= value < math.inf):
            raise UserError(f"--{name} {value}: give a number from 0 up")
    if min_score is not None and min_score > 1:
        raise UserError(f"--min-score {min_score}: a detector's confidence is from 0 to 1")
    if detector == "none":  # its landmarks are the template's, not the face's
        return Gate(min_eyes, min_score, max_yaw, min_sharpness)
    return Gate(
        MIN_EYES if min_eyes is None else min_eyes,
        MIN_SCORE if min_score is None else min_score,
        MAX_YAW if max_yaw is None else max_yaw,
        min_sharpness,
    )

"""Which photos are good enough to stand for a person."""

from __future__ import annotations

import math
from dataclasses import replace

from facekd.crops.records import AlignedCrop
from facekd.gallery.photos import KnownPhoto
from facekd.settings.photos import QualityGate

MIN_EYES, MIN_SCORE, MAX_YAW = 16.0, 0.8, 60.0  # benchmarks/enroll.py --only gate
MIN_DETAIL = 4.0  # benchmarks/quality.py


def gate_for(detector: str, asked: QualityGate) -> QualityGate:
    """The gate that was asked for; what was left open takes the measured default, or none where photos are crops."""
    if detector == "none":  # its landmarks are the template's, not the face's
        return asked
    return replace(
        asked,
        min_eyes=MIN_EYES if asked.min_eyes is None else asked.min_eyes,
        min_score=MIN_SCORE if asked.min_score is None else asked.min_score,
        max_yaw=MAX_YAW if asked.max_yaw is None else asked.max_yaw,
        min_detail=MIN_DETAIL if asked.min_detail is None else asked.min_detail,
    )


def refusal(gate: QualityGate, face: AlignedCrop | KnownPhoto) -> str:
    """Why a face is not good enough, empty where it is."""
    if gate.min_eyes is not None and face.eyes < gate.min_eyes:
        return f"{face.eyes:.1f} pixels between the eyes, under {gate.min_eyes:g}"
    if gate.min_score is not None and face.score < gate.min_score:
        return f"the detector is sure by {face.score:.3f}, under {gate.min_score:g}"
    yaw = abs(math.degrees(face.yaw))
    if gate.max_yaw is not None and yaw > gate.max_yaw:
        return f"the head is turned by {yaw:.0f} degrees, over {gate.max_yaw:g}"
    if gate.min_sharpness is not None and face.quality < gate.min_sharpness:
        return f"sharpness {face.quality:.1f}, under {gate.min_sharpness:g}"
    # What is not known, None or NaN, is not judged.
    if gate.min_detail is not None and face.detail is not None and face.detail < gate.min_detail:
        return (
            f"no detail in the face ({face.detail:.1f}, under {gate.min_detail:g}): the photo was blown up, is smeared "
            "or out of focus; take one in which the face is sharp"
        )
    return ""

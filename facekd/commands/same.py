"""facekd same: do two photos, or a photo and an enrolled person, show the same person?"""

from __future__ import annotations

import json as as_json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.core.printable import printable_line
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.photos import FaceSearch, ModelFile, OneFace, PairDecision

if TYPE_CHECKING:
    from facekd.enrollment.comparison import Same


@door
def same(
    photo: Path,
    other: Path,
    *,
    person: str | None = None,
    decision: PairDecision = PairDecision(),
    network: ModelFile = ModelFile(),
    faces: OneFace = OneFace(),
    json: bool = False,
    quiet: bool = False,
) -> Same:
    """Say whether two photos show the same person: score, threshold and verdict.

    Exits with 0 for the same person, 1 for different people, and 2 where that can't be told: no face in a photo, no
    such file, no threshold. A score is a cosine: 1 for the same picture, about 0 for strangers.

    What a FAR promises holds for pairs like those it was measured on: adults, mostly people of public life, women with
    men as well. Two people of one sex and one origin match more often, and children far more: where 1 in 100 pairs of
    men match, 10 to 23 in 100 pairs of boys under twenty do, and about half or more of those under three, with every
    network tried. Don't rely on a verdict about children.

    A gallery looks for faces as at its enrollment; --model says where its own network is, if that has moved.

    Example: facekd same a.jpg b.jpg

    Example: facekd same visitor.jpg staff.gallery --person Anna

    Args:
        photo: A photo.
        other: Another photo; or a gallery that 'facekd enroll' made, for --person.
        person: Who of the gallery the photo is compared with.
        json: Print the answer as one JSON object.
        quiet: Print nothing; the exit code tells.
    """
    from facekd.deploy.default import default_model
    from facekd.enrollment.comparison import compare_photos, is_gallery
    from facekd.ingest.photos import load_embedder

    if person is None and not is_gallery(other):
        embedder = load_embedder(network.model or default_model(), network.contract)
        min_face = 20 if faces.min_face is None else faces.min_face
        search = FaceSearch(detector=faces.detector, weights=faces.weights, min_face=min_face)
        result = compare_photos(photo, other, embedder, search, faces.choose, decision)
    else:
        if is_gallery(photo):
            raise UserError(f"{photo}: a gallery, where a photo is wanted; give the photo first, and then the gallery")
        if not is_gallery(other):
            raise UserError(f"{other}: no gallery, which --person is asked of; leave --person out to compare photos")
        if network.contract is not None:
            raise UserError(f"--contract {network.contract}: {other} keeps its network's own; leave --contract out")
        given = {"detector": faces.detector, "weights": faces.weights}
        for flag, value in {**given, "min-face": faces.min_face}.items():
            if value is not None:
                raise UserError(f"--{flag} {value}: {other} looks for faces as at the enrollment; leave --{flag} out")
        from facekd.enrollment.person import compare_with_person

        if person is None:
            raise UserError(f"{other}: is a gallery; say with --person whom of it to compare, or ask 'facekd identify'")
        result = compare_with_person(photo, other, person, network.model, faces.choose, decision, quiet)
    _print(result, faces.choose, json, quiet)
    return result


def _print(result: Same, choose: str, json: bool, quiet: bool) -> None:
    for side in (result.a, result.b):
        if side.faces is not None and side.faces > 1 and side.box is not None:
            place = " ".join(f"{value:.0f}" for value in side.box)
            say(
                f"{printable_line(side.name)}: {side.faces} faces; took {place} (x1 y1 x2 y2, --choose {choose})", quiet
            )
    if result.a.sha256 == result.b.sha256:
        say("both are the same file: the score says nothing about the person", quiet)
    if not quiet:
        print(as_json.dumps(asdict(result), allow_nan=False) if json else result)

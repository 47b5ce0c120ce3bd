"""``facekd synth``: photos of people who do not exist, in a folder for each of them."""

from __future__ import annotations

from pathlib import Path

import yaml

from facekd.console import progress, say
from facekd.core.process import hold_folder
from facekd.core.run import default_out, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import Population


@door
def synth(out: Path | None = None, *, population: Population = Population(), quiet: bool = False) -> Path:
    """Draw photos of people who do not exist, to try everything without anyone's face.

    Writes OUT/photos/person-0001/photo-0001.jpg and so on, and OUT/contact-sheet.jpg to look at. The same seed
    gives the same files, byte for byte, on one machine. A run that was stopped goes on where it was, and asking
    for more people or photos adds to what is there.

    Example: facekd synth nobodies/ --people 200 --photos 20

    Args:
        out: Folder to write; runs/synth-DATE where not given.
        quiet: Print nothing.

    Returns:
        The folder written.

    Raises:
        UserError: a number out of range, or a folder that holds another seed's people.
    """
    from facekd.photos.synth.folder import draw_missing, missing_photos, write_contact_sheet

    out = out or default_out("synth")
    people, photos, seed = population.people, population.photos, population.seed
    _same_seed(out, seed)
    hold_folder(out)
    start_run(out, "synth", {"out": out, **flat(population)})
    missing = missing_photos(out, people, photos)
    total = sum(map(len, missing.values()))
    if total < people * photos:
        say(f"{people * photos - total} of {people * photos} photos are there already", quiet)
    for _ in progress(draw_missing(out, seed, missing), total, "photos drawn", quiet):
        pass
    write_contact_sheet(out, people, photos)
    say(f"{out}: {people} people drawn, {photos} photos each; next: facekd align {out / 'photos'}", quiet)
    return out


def _same_seed(out: Path, seed: int) -> None:
    """Refuse to mix two populations in one folder."""
    if not (out / "run.yaml").exists():
        return
    before = yaml.safe_load((out / "run.yaml").read_text(encoding="utf-8"))
    if before.get("command") != "synth" or before.get("seed") != seed:
        raise UserError(
            f"{out}: holds a run of {before.get('command')!r} with seed {before.get('seed')}, not of 'synth' "
            f"with seed {seed}; choose another folder or that seed"
        )

"""The kinds of files that facekd writes, and the number of the form that each has now.

A number is raised with a change that an older facekd would misread; what is only added needs none. A file without a
number is of before there were numbers, which is form 1 of its kind. Older forms are read; a newer one is refused.
"""

from __future__ import annotations

from facekd.errors import UserError

FORMATS = {
    "crop store": 1,  # store.json, and each part of crops/
    "ledger": 1,  # of a crop store's photos and of a gallery's
    "embeddings": 1,  # .parquet and .npz
    "failures": 1,  # the photos that embed has no embedding of
    "run folder": 1,  # run.yaml; what lies beside it belongs to it
    "checkpoint": 1,
    "trained network": 1,  # model.safetensors
    "head": 1,
    "teacher cache": 1,  # key.json
    "exported network": 1,  # the metadata of an ONNX file
    "gallery": 2,  # gallery.json, and the settings in an export of its templates
    "decisions": 1,  # of a gallery, about suspected mix-ups
    "encrypted file": 1,
    "kept form": 1,  # of a network, in the user's cache
}
KEY = "format"  # in JSON and YAML
METADATA = "facekd.format"  # in the metadata of Parquet, Arrow and ONNX files


def check_format(kind: str, found: object, where: object) -> None:
    """Pass a file that this facekd can read.

    Args:
        kind: one of FORMATS.
        found: the number in the file, as a number or its digits; None where it has none.
        where: the file, for the sentence.

    Raises:
        UserError: a newer form, or no number.
    """
    text = found.decode(errors="replace") if isinstance(found, bytes) else str(1 if found is None else found)
    if not (text.isdecimal() and text.isascii() and int(text) >= 1):
        raise UserError(f"{where}: its format is {text!r}, which is no number of a form; copy it again")
    if int(text) > FORMATS[kind]:
        raise UserError(
            f"{where}: was written by a newer facekd ({kind} of format {text}, this one reads up to {FORMATS[kind]}); "
            "update: pip install -U facekd"
        )

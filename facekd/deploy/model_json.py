"""What a model is, as JSON: in an ONNX file's metadata, and in a file beside each export for those who can't read it.

``student.onnx.json`` lies beside ``student.onnx``, ``student.ncnn.zip.json`` beside ``student.ncnn.zip``. All that C++,
JavaScript, Swift or Kotlin need to feed the model and to read what it gives:

    format         number of this form, now 1; a later one only where an old reader would go wrong
    name           of the network
    model_id       16 hex digits; only embeddings of one model_id may be compared
    source         model_id of the network that it was made from, where its embeddings are others; else null
    precision      of its weights: fp32, fp16, int8 …
    contract       what the network expects of a crop: size, template, channels, mean, std, layout, flip, dim …
    input          name (null where it goes by its place), dtype, shape (null for a free batch), layout, channels, and
                   mean and std on pixels 0 to 255: input = (pixel - mean) / std; null where it takes the pixels
    output         name, dtype, shape; its rows have unit norm and their cosine is the score
    thresholds     far: [{far, threshold}], a pair is of one person where score >= threshold, wrongly so for at most
                   the share far of the pairs of strangers; fpir: [], as the threshold of a search belongs to a gallery
                   of a size, which 'facekd enroll' measures there
    parity         cosines between its embeddings and its source's, of how many crops, of faces or of noise
    rates          TAR at FARs on the pairs that it was judged on, and its difference to the source, 95 % intervals
    terms          of its license and of the data it was trained on; null where nobody stated them
    versions       of what wrote it
    file, bytes, sha256   of the file beside it; not in the metadata. A folder's digest is `digest_of`'s. An OpenVINO
                   .xml has its .bin under weights
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facekd.core import formats
from facekd.core.contract import Contract
from facekd.core.files import sha256_bytes, sha256_file
from facekd.deploy.graph import CROPS, EMBEDDING, FED
from facekd.nets.files import STANDARD, UINT8
from facekd.nets.files import json_beside as json_beside

MODEL = "facekd.model"  # key in an ONNX file's metadata
FORMAT = 1  # of the JSON; facekd itself reads the metadata of before


def input_of(contract: Contract, takes: str | None) -> dict[str, Any]:
    """What an ONNX file takes.

    Args:
        contract: the network's.
        takes: nets.files.UINT8 or STANDARD; None for what the contract says.
    """
    size = contract.size
    if takes == UINT8:
        about = {"dtype": "uint8", "shape": [None, size, size, 3], "layout": "NHWC", "channels": "RGB"}
        return {"name": CROPS, **about, "mean": None, "std": None, "flip": False}
    fed = contract.standard() if takes == STANDARD else contract
    shape = [None, 3, size, size] if fed.layout == "NCHW" else [None, size, size, 3]
    about = {"dtype": "float32", "shape": shape, "layout": fed.layout, "channels": fed.channels}
    return {"name": FED, **about, "mean": list(fed.mean), "std": list(fed.std), "flip": fed.flip}


def output_of(dim: int, name: str | None = EMBEDDING, free_batch: bool = True) -> dict[str, Any]:
    """What a file gives; no name where it goes by its place."""
    return {"name": name, "dtype": "float32", "shape": [None if free_batch else 1, dim], "norm": 1}


def about_model(
    *,
    name: str,
    contract: Contract,
    source: Contract,
    precision: str,
    fed: Mapping[str, Any],
    made: Mapping[str, Any],
    parity: Mapping[str, Any],
    rates: Mapping[str, Any],
    thresholds: Mapping[float, float],
    terms: str | None,
    versions: Mapping[str, str | None],
) -> dict[str, Any]:
    """The values above, but for those of the file.

    Args:
        contract: the exported network's; `source` that of the network it was made from.
        fed, made: input and output, as `input_of` and `output_of` say.
        thresholds: FAR -> cosine.
    """
    far = [{"far": one, "threshold": thresholds[one]} for one in sorted(thresholds, reverse=True)]
    return {
        formats.KEY: FORMAT,
        "name": name,
        "model_id": contract.model_id,
        "source": None if contract == source else source.model_id,
        "precision": precision,
        "contract": contract.to_values(),
        "input": dict(fed),
        "output": dict(made),
        "thresholds": {"far": far, "fpir": []},
        "parity": dict(parity),
        "rates": dict(rates),
        "terms": terms,
        "versions": dict(versions),
    }


def describe(made: Path, about: Mapping[str, Any]) -> None:
    """Write the JSON beside a model that is whole and has not got its place yet."""
    files = [made] if made.is_file() else [path for path in made.rglob("*") if path.is_file()]
    values = {**about, "file": made.name, "bytes": sum(path.stat().st_size for path in files)}
    values["sha256"] = digest_of(made)
    weights = made.with_suffix(".bin")
    if made.suffix == ".xml" and weights.exists():
        values["weights"] = {"file": weights.name, "bytes": weights.stat().st_size, "sha256": digest_of(weights)}
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    json_beside(made).write_text(f"{text}\n", encoding="utf-8")


def digest_of(model: Path) -> str:
    """64 hex digits over a file; over the sorted lines ``DIGEST  NAME`` of its files for a folder, as sha256sum gives
    them."""
    if model.is_file():
        return sha256_file(model)
    names: Sequence[str] = sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())
    return sha256_bytes("".join(f"{sha256_file(model / name)}  {name}\n" for name in names).encode())

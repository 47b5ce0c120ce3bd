"""What a network expects of a crop, and the fingerprint that keeps two networks apart."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from facekd.core.files import read_yaml
from facekd.core.geometry import TEMPLATES
from facekd.core.suggest import nearest
from facekd.errors import UserError

WHITE = 255.0  # of a pixel
LARGEST_SCALE = 0.03  # a std under it is 1 / std by another name: 1/58 is 0.017, and no pixels vary so little
KNOWN = Path(__file__).parent / "known_contracts"
# What a model_id is a hash of, since the first. Never change it: a field that comes later is hashed where it is not its
# default, so that the ids of galleries, caches and models from before stay what they are.
IDENTITY_1 = ("dim", "size", "template", "channels", "mean", "std", "layout", "flip", "weights_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a network expects of a crop: ``input = (pixels - mean) / std``, per channel.

    Raises:
        UserError: a value out of range.
    """

    dim: int  # D of the embedding
    size: int = 112  # S, pixels
    template: str = "arcface"  # how the crop was aligned: core.geometry.TEMPLATES
    channels: str = "RGB"  # or BGR
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)  # on pixels 0..255, in `channels` order
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    layout: str = "NCHW"  # or NHWC
    flip: bool = False  # embed the mirrored crop too and add the two before normalizing
    weights_sha256: str = ""  # digest of the weights; empty only while they are not written yet

    def __post_init__(self) -> None:
        # YAML and JSON give lists; a tuple keeps the contract hashable.
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        problems = [
            (type(self.dim) is not int or type(self.size) is not int, "dim and size are whole numbers, such as 512"),
            (not isinstance(self.weights_sha256, str), "weights_sha256 is no text of 64 hex digits: leave it out"),
            (type(self.flip) is not bool, f"flip is {self.flip!r}: use true or false"),
            (self.channels not in ("RGB", "BGR"), f"channels is {self.channels!r}: use RGB or BGR"),
            (self.layout not in ("NCHW", "NHWC"), f"layout is {self.layout!r}: use NCHW or NHWC"),
            (self.template not in TEMPLATES, f"template is {self.template!r}: use {' or '.join(TEMPLATES)}"),
            (self.size < 16, f"size is {self.size}: use the crop's side in pixels, such as 112"),
            (self.dim < 1, f"dim is {self.dim}: use the length of the embedding, such as 128"),
            (len(self.mean) != 3 or len(self.std) != 3, "mean and std need three numbers each"),
            (not all(map(math.isfinite, self.mean)), f"mean is {self.mean}: use finite numbers"),
            (not all(0 < v < math.inf for v in self.std), f"std is {self.std}: use numbers above zero"),
        ]
        for wrong, sentence in problems:
            if wrong:
                raise UserError(f"contract: {sentence}")
        unit = _other_unit(self.mean, self.std)
        if unit:
            raise UserError(f"contract: {unit}")

    @property
    def model_id(self) -> str:
        """16 hex digits over `to_values`: travels with each model, embedding file, cache and gallery."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_values(self) -> dict[str, Any]:
        """The fields of IDENTITY_1, and those that came later where they are not their defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        later = {field.name: field.default for field in fields(self) if field.name not in IDENTITY_1}
        return {name: value for name, value in values.items() if name not in later or value != later[name]}

    def standard(self) -> Contract:
        """This with the input that most software feeds a face embedder: RGB, NCHW, (pixels - 127.5) / 127.5, once."""
        gray = (127.5, 127.5, 127.5)
        return replace(self, channels="RGB", mean=gray, std=gray, layout="NCHW", flip=False)

    def to_json(self) -> str:
        return json.dumps(self.to_values(), sort_keys=True)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> Contract:
        """The contract that `values`, read at `where`, describes.

        Raises:
            UserError: an unknown or missing key, or a value of the wrong kind.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise UserError(f"{where}: a contract is 'key: value' pairs, not {type(values).__name__}; write one anew")
        for name in ("dim", "size"):
            if name in values and type(values[name]) is not int:
                raise UserError(
                    f"{where}: {name} is {values[name]!r}, of the wrong kind; dim and size are whole numbers, such as "
                    "512"
                )
        for name in ("mean", "std"):
            value = values.get(name, ())
            if not isinstance(value, list | tuple) or any(type(one) not in (int, float) for one in value):
                raise UserError(
                    f"{where}: {name} is {values[name]!r}, of the wrong kind; give three numbers, one for each "
                    "channel, such as [127.5, 127.5, 127.5]"
                )
        for key in values:
            if key not in names:
                raise UserError(f"{where}: a contract has no key {key!r}{nearest(str(key), names)}")
        if "dim" not in values:
            raise UserError(f"{where}: the contract lacks 'dim', the length of the embedding; add it")
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: a contract value has the wrong kind ({error}); correct it") from error


def _other_unit(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """A sentence where mean and std can't be of pixels 0 to 255, with the values in that unit; else nothing."""

    def shown(values: Iterable[float]) -> str:
        return f"[{', '.join(f'{value:.6g}' for value in values)}]"

    right = []
    if any(mean) and max(map(abs, mean)) <= 1:
        right.append(f"mean: {shown(abs(WHITE * value) for value in mean)}")
    elif min(mean) < 0 or max(mean) > WHITE:
        right.append(f"mean: {shown(abs(value) for value in mean)}" if max(map(abs, mean)) <= WHITE else "another mean")
    if max(std) < LARGEST_SCALE:
        right.append(f"std: {shown(1 / value for value in std)}")  # what pixels are multiplied by
    elif max(std) < 1:
        right.append(f"std: {shown(WHITE * value for value in std)}")
    if not right:
        return ""
    return (
        f"mean {shown(mean)} and std {shown(std)} can't be of pixels 0 to 255, which is what facekd feeds a network; "
        f"in that unit it is {' and '.join(right)}"
    )


def read_contract(path: Path) -> Contract:
    """The contract in a YAML or JSON file.

    Raises:
        UserError: no such file, no mapping, or not a contract.
    """
    if not path.exists():
        raise UserError(f"{path}: no such contract file; write one or leave --contract out")
    values = read_yaml(path, "a contract is a few 'key: value' lines")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no 'key: value' lines; a contract needs at least 'dim: 512'")
    return Contract.from_mapping(values, str(path))


def known_contract(weights_sha256: str) -> Contract | None:
    """The contract that facekd carries for well-known public weights, by their digest; never a guess."""
    for path in sorted(KNOWN.glob("*.yaml")):
        contract = read_contract(path)
        if contract.weights_sha256 == weights_sha256:
            return contract
    return None

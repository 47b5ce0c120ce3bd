"""Contracts: what they refuse, and the fingerprint that tells two apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from facekd.core.contract import IDENTITY_1, KNOWN, Contract, known_contract, read_contract
from facekd.errors import UserError

BASE = Contract(dim=128)
OTHER = {
    "dim": 512, "size": 96, "channels": "BGR", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0),
    "layout": "NHWC", "flip": True, "weights_sha256": "ab" * 32,
}  # fmt: skip


def test_every_field_changes_the_fingerprint() -> None:
    # The one field that has a single legal value so far is the template.
    assert set(OTHER) | {"template"} == {field.name for field in dataclasses.fields(Contract)}
    ids = {dataclasses.replace(BASE, **{name: value}).model_id for name, value in OTHER.items()}
    assert len(ids | {BASE.model_id}) == len(OTHER) + 1


def test_the_fingerprint_stays_the_same_over_releases() -> None:
    # Galleries on disk are bound to it: if this fails, they all have become strangers.
    assert BASE.model_id == "3203d4a6d3592bdd"


# Of models, galleries and caches that lie on disks since before IDENTITY_1 had a name.
IDS = {
    "w600k_mbf": "9d9085b9d57a484d",
    "foamliu_mobilefacenet": "80e2f02bc02e63fb",
    "sface_2021dec": "664dced0b531adb0",
    "reid_retail_0095": "fcf92a7eee92c025",
}
UNUSUAL = {
    "dim": 128, "size": 96, "template": "arcface", "channels": "BGR", "mean": [0, 1, 2], "std": [1, 2.5, 3],
    "layout": "NHWC", "flip": True, "weights_sha256": "ab" * 32,
}  # fmt: skip


def test_the_ids_of_known_networks_are_what_they_were() -> None:
    assert {path.stem: read_contract(path).model_id for path in KNOWN.glob("*.yaml")} == IDS
    assert Contract(dim=512).model_id == "816124e6dd1428ec"
    assert Contract.from_mapping(UNUSUAL, "here").model_id == "701a45ba8860365c"
    # And so is the text that is hashed, and written into files.
    assert BASE.to_json() == json.dumps(dataclasses.asdict(BASE), sort_keys=True)
    assert set(IDENTITY_1) == {field.name for field in dataclasses.fields(Contract)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Later(Contract):
    """A Contract of a time to come."""

    gamma: float = 1.0
    modes: tuple[str, ...] = ()


def test_a_field_to_come_changes_no_id_by_its_default_and_every_id_by_another_value() -> None:
    for path in KNOWN.glob("*.yaml"):
        was = read_contract(path)
        values = json.loads(was.to_json())
        later = Later(**values)
        assert (later.model_id, later.to_json()) == (was.model_id, was.to_json())
        others = [
            Later(**values, gamma=2.2),
            Later(**values, modes=("hdr",)),
            Later(**values, gamma=2.2, modes=("hdr",)),
        ]
        assert len({was.model_id, *(other.model_id for other in others)}) == 4
        assert Later.from_mapping(json.loads(others[0].to_json()), "here") == others[0]
    # An older facekd names the key that it does not know, and takes no network for another.
    with pytest.raises(UserError, match="no key 'gamma'"):
        Contract.from_mapping(json.loads(Later(dim=8, gamma=2.2).to_json()), "here")


def test_lists_and_whole_numbers_from_yaml_give_the_same_fingerprint() -> None:
    from_yaml = Contract.from_mapping({"dim": 128, "mean": [127.5, 127.5, 127.5], "std": [127.5] * 3}, "here")
    assert from_yaml == BASE
    assert hash(from_yaml) == hash(BASE)
    assert Contract(dim=128, mean=[0, 0, 0]).model_id == Contract(dim=128, mean=(0.0, 0.0, 0.0)).model_id


def test_json_round_trip() -> None:
    contract = dataclasses.replace(BASE, **OTHER)
    again = Contract.from_mapping(json.loads(contract.to_json()), "metadata")
    assert again == contract
    assert again.model_id == contract.model_id


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dim": 128, "chanels": "BGR"}, "no key 'chanels'; did you mean 'channels'"),
        ({}, "lacks 'dim'"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": "128"}, "kind"),
        ({"dim": 128.0}, "whole numbers"),
        ({"dim": True}, "whole numbers"),
        ({"dim": "8"}, "dim is '8', of the wrong kind; dim and size are whole numbers"),
        ({"dim": None}, "dim is None, of the wrong kind; dim and size are whole numbers"),
        ({"dim": 8, "size": "0:32"}, "size is '0:32', of the wrong kind"),
        (
            {"dim": 8, "mean": [[1], [2], [3]]},
            r"mean is \[\[1\], \[2\], \[3\]\], of the wrong kind; give three numbers",
        ),
        ({"dim": 128, "size": 8}, "size is 8"),
        ({"dim": 128, "size": None}, "kind"),
        ({"dim": 128, "channels": "rgb"}, "channels is 'rgb': use RGB or BGR"),
        ({"dim": 128, "layout": "CHW"}, "layout is 'CHW': use NCHW or NHWC"),
        ({"dim": 128, "template": "arcfcae"}, "template is 'arcfcae': use arcface"),
        ({"dim": 128, "mean": 127.5}, r"mean is 127.5, of the wrong kind; give three numbers"),
        ({"dim": 128, "std": "127.5"}, "std is '127.5', of the wrong kind; give three numbers"),
        ({"dim": 128, "mean": None}, "mean is None, of the wrong kind"),
        ({"dim": 128, "weights_sha256": ["x"]}, "weights_sha256 is no text of 64 hex digits"),
        ({"dim": 128, "weights_sha256": None}, "weights_sha256 is no text of 64 hex digits"),
        ({"dim": 128, "mean": [1, 2]}, "three numbers"),
        ({"dim": 128, "mean": [1, 2, float("nan")]}, "finite"),
        ({"dim": 128, "std": [1, 1, 0]}, "above zero"),
        ({"dim": 128, "std": [1, 1, float("nan")]}, "above zero"),
        ({"dim": 128, "std": [1, 1, float("inf")]}, "above zero"),
        ({"dim": 128, "flip": "no"}, "flip is 'no': use true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(values: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        Contract.from_mapping(values, "model.yaml")
    assert str(error.value).startswith("model.yaml: ")


@pytest.mark.parametrize("values", [None, 5, "dim", ["dim"]])
def test_what_is_no_mapping_is_no_contract(values: object) -> None:
    with pytest.raises(UserError, match=r"model\.onnx: a contract is 'key: value' pairs, not"):
        Contract.from_mapping(values, "model.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "holds no"), ("- 1", "holds no"), ("dim: [", "not readable as YAML"), ("\x00", "not readable as YAML")],
)
def test_a_file_that_is_no_contract(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_contract(path)


def test_a_contract_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such contract file"):
        read_contract(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="not readable"):
        read_contract(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not readable"):
        read_contract(tmp_path / "x.yaml")


def test_known_contracts_are_found_by_digest_alone() -> None:
    paths = sorted(KNOWN.glob("*.yaml"))
    assert len(paths) >= 3
    contracts = [read_contract(path) for path in paths]
    assert len({contract.model_id for contract in contracts}) == len(paths)
    for contract in contracts:
        assert len(contract.weights_sha256) == 64
        assert known_contract(contract.weights_sha256) == contract
    assert known_contract("0" * 64) is None
    assert known_contract("") is None


@pytest.mark.parametrize(
    ("mean", "std", "right"),
    [
        ([0.5] * 3, [0.5] * 3, r"mean: \[127\.5, 127\.5, 127\.5\] and std: \[127\.5, 127\.5, 127\.5\]"),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], r"\[123\.675, 116\.28, 103\.53\] .*\[58\.395, 57\.12, 57\.3"),
        ([0, 0, 0], [1 / 255] * 3, r"in that unit it is std: \[255, 255, 255\]$"),
        ([127.5] * 3, [1 / 128] * 3, r"in that unit it is std: \[128, 128, 128\]$"),  # ncnn's norm_vals
        ([127.5] * 3, [0.5] * 3, r"in that unit it is std: \[127\.5, 127\.5, 127\.5\]$"),
        ([0.5] * 3, [127.5] * 3, r"in that unit it is mean: \[127\.5, 127\.5, 127\.5\]$"),
        ([-127.5] * 3, [128] * 3, r"in that unit it is mean: \[127\.5, 127\.5, 127\.5\]$"),  # what is added
        ([-0.5] * 3, [0.5] * 3, r"mean: \[127\.5, 127\.5, 127\.5\] and std: \[127"),
        ([300] * 3, [128] * 3, "it is another mean"),
    ],
)  # fmt: skip
def test_values_of_another_unit_are_refused_with_those_of_pixels(
    mean: list[float], std: list[float], right: str
) -> None:
    with pytest.raises(UserError, match=rf"^here: contract: mean .* can't be of pixels 0 to 255.*{right}"):
        Contract.from_mapping({"dim": 8, "mean": mean, "std": std}, "here")


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0] * 3, [1] * 3), ([0] * 3, [255] * 3), ([127.5] * 3, [1] * 3), ([104, 117, 123], [1] * 3)],
)  # fmt: skip
def test_values_of_pixels_are_taken(mean: list[float], std: list[float]) -> None:
    assert Contract(dim=8, mean=mean, std=std).std[0] == std[0]  # type: ignore[arg-type]

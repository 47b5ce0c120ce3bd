"""Ids for databases: known answers, and what the columns of the files hold."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.contract import Contract
from facekd.core.types import Embeddings
from facekd.deploy.embeddings import Embedded, write_embeddings
from facekd.deploy.ids import int_id, uuid_id


def test_known_answers() -> None:
    """By ``printf abc-1-2 | sha256sum`` and sha1sum of the namespace's 16 bytes and ``facekd:abc-1-2``."""
    assert int_id("abc-1-2") == int(INTEGER, 16) >> 1
    assert uuid_id("abc-1-2") == UUID


INTEGER, UUID = "3913442be5537745", "d84e521a-1f9e-55a4-99bb-a2c69e478faa"


@given(st.text())
def test_they_are_what_the_docstrings_say(text: str) -> None:
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    if text.isprintable():
        assert int_id(text) == int(bits[:63], 2)
    assert 0 <= int_id(text) < 2**63
    found = uuid.UUID(uuid_id(text))
    digest = hashlib.sha1(uuid.NAMESPACE_URL.bytes + b"facekd:" + text.encode()).digest()
    assert (found.version, found.variant) == (5, uuid.RFC_4122)
    assert found.bytes[:6] == digest[:6]
    assert found.bytes[9:] == digest[9:16]


def test_both_files_hold_them(tmp_path: Path) -> None:
    ids = ("a", "ü-1", "名前")
    contract = Contract(dim=3)
    piece = Embedded(Embeddings(np.eye(3, dtype=np.float32), ids, contract.model_id), (None,) * 3, ids)
    for name in ("e.parquet", "e.npz"):
        write_embeddings(tmp_path / name, [piece], contract)
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.schema.field("int_id").type == pa.int64()
    assert table["int_id"].to_pylist() == [int_id(one) for one in ids]
    assert table["uuid"].to_pylist() == [uuid_id(one) for one in ids]
    with np.load(tmp_path / "e.npz") as file:
        assert file["int_ids"].dtype == np.int64
        assert file["int_ids"].tolist() == table["int_id"].to_pylist()
        assert file["uuids"].tolist() == table["uuid"].to_pylist()

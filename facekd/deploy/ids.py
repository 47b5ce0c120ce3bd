"""Ids as databases take them: an integer and a UUID for each id, pure functions of its text."""

from __future__ import annotations

import hashlib
import uuid


def int_id(text: str) -> int:
    """An integer in [0, 2**63), as FAISS, Milvus and Postgres' bigint take it.

    The first 63 bits of the SHA-256 of the id's UTF-8 bytes, read big-endian. Two of N ids share one with a probability
    of N**2 / 2**64: 5e-8 for a million.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def uuid_id(text: str) -> str:
    """A UUID in its usual form, as Qdrant, Postgres and DuckDB take it.

    Version 5 (RFC 9562: SHA-1) in the namespace of URLs, of the name ``facekd:`` and the id.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"facekd:{text}"))

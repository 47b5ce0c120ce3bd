"""Small sets of crops that benchmarks write for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.files import atomic_write


def write_parquet(path: Path, images: Sequence[bytes], people: Sequence[str | None]) -> Path:
    """Encoded crops and who they show as image Parquet, as `facekd.crops.read` takes it."""
    rows = [{"bytes": image, "path": None} for image in images]
    with atomic_write(path) as file:
        pq.write_table(pa.table({"image": rows, "identity": pa.array(people, pa.string())}), file)
    return path

"""Taking people out of a table so that no byte of them stays."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from typing import Any

from facekd.gallery.people import NAMED, one_of


def erase(table: Any, ids: Sequence[str]) -> None:
    """Remove the rows of people, every file that held them and every note of it; the table's only writer may."""
    for start in range(0, len(ids), NAMED):
        table.delete(one_of(ids[start : start + NAMED]))
    # LanceDB hides deleted rows, compacts them away only where they are many, and notes the condition above in
    # its newest transaction. An update that changes nothing writes every file and that note anew.
    table.update(where="true", values_sql={"person_id": "person_id"})
    with warnings.catch_warnings():
        # It warns that earlier versions go at once: that is what is asked for.
        warnings.filterwarnings("ignore", message="optimize.cleanup_older_than=0", category=UserWarning)
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)

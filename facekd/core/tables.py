"""Arrow tables from files that may be damaged."""

from __future__ import annotations

import pyarrow as pa


def sound(table: pa.Table) -> pa.Table:
    """`table`, all of whose texts and offsets can be read.

    Arrow looks at neither when it reads a file: text that is no UTF-8 is found out where somebody asks for it, an
    offset that can't be ends the process there.

    Raises:
        pyarrow.ArrowInvalid: it has others.
    """
    try:
        table.validate(full=True)
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"a column's name is no UTF-8: {error}") from error
    return table

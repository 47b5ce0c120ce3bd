"""The process that converts: its converters print, load much and change what they find, and nothing of it stays.

    python -m facekd.deploy.targets.convert MODULE SOURCE.onnx OUT PRECISION

Exit code 0, or 2 with a sentence as the last line of stderr.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from facekd.errors import UserError


def main() -> int:
    module, source, out, precision = sys.argv[1:]
    try:
        importlib.import_module(f"facekd.deploy.targets.{module}").write(Path(source), Path(out), precision)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""BLUFR's MATLAB file as JSON, read in a process of its own: SciPy's reader may crash on a damaged one."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

DAMAGED = (MatReadError, zlib.error, OSError, ValueError, LookupError, TypeError, NotImplementedError, OverflowError)
SETS = ("galIndex", "probIndex")


def read_config(path: Path) -> dict[str, Any]:
    """``imageList`` (file names), ``galIndex`` and ``probIndex`` (for each trial indices from 1) of the file.

    Raises:
        ValueError: another kind of file, or a damaged one.
    """
    # Not by multiprocessing, which would run a caller's script again.
    done = subprocess.run([sys.executable, "-P", "-m", __name__, str(path)], capture_output=True, text=True)
    if done.returncode == 2:
        raise ValueError(done.stderr.strip())
    if done.returncode:
        raise ValueError("its reader crashed: the file is damaged")
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def _read(path: str) -> dict[str, Any]:
    values = loadmat(path)
    sets = {key: [np.ravel(one).astype(np.int64).tolist() for one in np.ravel(values[key])] for key in SETS}
    return {"imageList": [str(np.ravel(one)[0]) for one in np.ravel(values["imageList"])], **sets}


if __name__ == "__main__":
    try:
        found = _read(sys.argv[1])
    except DAMAGED as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    json.dump(found, sys.stdout)

"""Network look-ups and connections of every command, as strace sees them: the goal is 0.

    python benchmarks/network.py            # some minutes; writes results/network.json
    python benchmarks/network.py align      # commands whose words begin so, and those before them, nothing written

Each command runs on drawn people in a process as a user starts it, without a setting that would keep a library silent.
Counted is each address outside this machine, and each name server, that one of its processes connects or sends to.
`facekd serve` is asked for its page before it ends; of `--engine ray` the cluster is the command's own.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from _record import record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from traced import PLACE, outgoing, traced_process  # of the tests

from facekd.deploy.default import default_model

MODEL = str(default_model())
STUDENT = "--net mobilefacenet-half --dim 16 --batch 16 --held-out 0.3"
SMALL = "--epochs 1 --batch 16 --held-out 0.3 --dim 16"
PORT = 18611

COMMANDS = f"""
doctor
synth drawn --people 30 --photos 6
align drawn/photos crops
nets
leak crops crops --embedder {MODEL} --threshold 0.9
audit crops --embedder {MODEL}
train-teacher --data crops --net iresnet18-quarter {SMALL} --out teacher
distill --data crops --net mobilefacenet-half {SMALL} --out alone
distill --teacher teacher --data crops --net mobilefacenet-half {SMALL} --out student
compare teacher alone student
distill --data crops --net mobilefacenet {SMALL} --out wide
narrow wide --net mobilefacenet-half --data crops --out narrow
distill --teacher {MODEL} --data crops --net mobilefacenet-half {SMALL} --out onnx
distill --teacher {MODEL} --teacher-backend openvino --data crops --net mobilefacenet-half {SMALL} --out openvino
distill --teacher {MODEL} --teacher-backend torch --data crops --net mobilefacenet-half {SMALL} --out torch
distill --teacher teacher --data crops --net mobilefacenet-half {SMALL} --augment occluded --out occluded
cache build --teacher teacher --data crops --views 1 --cache cache
cache verify --teacher teacher --data crops --views 1 --cache cache
cache gc --cache cache
sweep grid.yaml --out sweep
verify --model student --crops crops --all-pairs
export student student.onnx
export student int8.onnx --precision int8 --crops crops
embed crops crops.parquet
embed drawn/photos photos.parquet
cluster crops --out clusters
same FIRST SECOND
enroll drawn/photos people.gallery --accept-suspects
identify people.gallery drawn/photos --out names.csv
gallery info people.gallery
gallery export people.gallery templates.parquet
gallery import imported.gallery templates.parquet
gallery migrate people.gallery migrated.gallery --model student.onnx --crops crops --threshold 0.5
gallery merge imported.gallery person-0001 person-0002
gallery rename imported.gallery person-0001 anna
gallery delete imported.gallery anna
gallery purge imported.gallery
gallery index imported.gallery
quickstart --out quickstart --teacher-views 100 --student-views 100
serve people.gallery --port {PORT}
align drawn/photos by-ray --engine ray
cache build --teacher {MODEL} --data crops --views 1 --cache by-ray-cache --engine ray
verify --model student --crops crops --all-pairs --engine ray
federate --simulate 2 --teacher {MODEL} --data crops {STUDENT} --rounds 2 --steps 2 --out federated
"""
NEEDS = {"--engine ray": "ray", "federate": "flwr"}
GRID = (
    "base: {data: [crops], teacher: teacher, net: mobilefacenet-half, dim: 16, epochs: 1, batch: 16, held_out: 0.3}\n"
)


def main() -> None:
    """Trace the commands and write what they asked for."""
    folder = Path(tempfile.mkdtemp(prefix="facekd-network-"))
    (folder / "grid.yaml").write_text(GRID + "cells: {embedding: {term: {embedding: 10}}}\n")
    lines = COMMANDS.strip().splitlines()
    if sys.argv[1:]:
        lines = lines[: max(i for i, line in enumerate(lines) if line.startswith(sys.argv[1])) + 1]
    rows = []
    for line in lines:
        lacks = [package for part, package in NEEDS.items() if part in line and find_spec(package) is None]
        if lacks:
            print(f"skipped, {lacks[0]} is not installed: {line}")
            rows.append({"command": line.replace(MODEL, "MODEL"), "skipped": f"{lacks[0]} is not installed"})
            continue
        if "FIRST" in line:
            photos = sorted((folder / "drawn" / "photos").rglob("*.jpg"))
            line = line.replace("FIRST", str(photos[0])).replace("SECOND", str(photos[1]))
        code, said = _run(line, folder)
        text = (folder / "trace").read_text(errors="replace")
        found = outgoing(text)
        row = {
            "command": line.replace(MODEL, "MODEL").replace(f"{folder}/", ""),
            "exit_code": code,
            "inside_this_machine": len(PLACE.findall(text)),
            "outside": found,
        }
        print(f"{row['command'][:90]}: exit {code}, outside {found or 'none'}", flush=True)
        if code not in (0, 1, -signal.SIGTERM):
            print(said[-2000:])
        rows.append(row)
    shutil.rmtree(folder)
    ran = [row for row in rows if "outside" in row]
    result = {
        "commands": len(ran),
        "that_ended_well": sum(row["exit_code"] in (0, 1) for row in ran),
        "look_ups_and_connections_outside": sum(len(row["outside"]) for row in ran),
        "rows": [{key: value for key, value in row.items() if value != []} for row in rows],
    }
    print({key: value for key, value in result.items() if key != "rows"})
    if not sys.argv[1:]:
        record("network", result)


def _run(line: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of one command; a server is asked for its page and stopped."""
    process = traced_process(line.split(), folder, folder / "trace")
    if line.startswith("serve"):
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        # strace ends with what it traces, and hands a signal of its own on to nobody.
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        subprocess.run(["kill", child], check=True)
    said, _ = process.communicate(timeout=1200)
    return process.returncode, said


if __name__ == "__main__":
    main()

"""The server under 16 clients at once, and what a warm identification costs from Python.

    python benchmarks/serve.py

writes ``results/serve.json``; some ten minutes on two cores where nothing else runs. A gallery of LFW people, one
photo each, with all defaults; probes are other LFW photos of 250 pixels, one a request, each client on a connection of
its own that stays open. Server and clients share the machine's cores. A latency is from the first byte sent to the last
byte received.

- ``clients``: /identify by 1, 4 and 16 clients at once: requests a second, p50 and p99 in milliseconds, and the CPU
  time that the server takes for a request. With more clients than cores most of a latency is the wait for a core.
- ``while_enrolling``: the same by 16 clients while one more enrolls somebody again and again, with that one's latency.
- ``python``: `Gallery.identify` of one photo's bytes, warm, in this process, and its parts.
- ``memory``: resident memory of this process after 1,000 and after 10,000 calls in turns of `identify`, `verify`,
  `embed_photos` and `compare`, and of the server after all its requests.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _record import record

from facekd import Embedder, Gallery
from facekd.core.system import cores
from facekd.deploy.default import default_model
from facekd.gallery.gallery import GalleryTable

DATA = Path(__file__).parents[2] / "shared" / "data"
PERSON = re.compile(r"(.+)_\d{4}\.jpg")
EDGE = "b" * 32  # of forms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--people", type=int, default=779, help="enrolled people of LFW, those with two photos first")
    parser.add_argument("--requests", type=int, default=1600, help="requests of each number of clients")
    parser.add_argument("--calls", type=int, default=10_000, help="calls from Python")
    given = parser.parse_args()
    enrolled, probes = lfw(given.data / "lfw.zip", given.people)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "lfw.gallery")
        embedder = Embedder.load(default_model(), threads=1)
        summary = Gallery.open(place, embedder).enroll(enrolled, accept_suspects=True)
        result: dict[str, Any] = {"cores": cores(), "people": summary.enrolled, "probes": len(probes)}
        result |= served(place, probes, given.requests)
        gallery = Gallery.open(place, embedder)
        result["python"] = from_python(gallery, embedder, probes)
        result["memory"] |= after_calls(gallery, embedder, probes, given.calls)
    print(json.dumps(result, indent=2))
    record("serve", result)


def lfw(archive: Path, people: int) -> tuple[dict[str, bytes], list[bytes]]:
    """A photo of each of some people, and another one of those who have two."""
    found: dict[str, list[str]] = {}
    with zipfile.ZipFile(archive) as photos:
        for name in sorted(photos.namelist()):
            if match := PERSON.fullmatch(Path(name).name):
                found.setdefault(match[1], []).append(name)
        chosen = sorted(found, key=lambda person: (len(found[person]) < 2, person))[:people]
        first = {person: photos.read(found[person][0]) for person in chosen}
        return first, [photos.read(found[person][1]) for person in chosen if len(found[person]) > 1]


def served(place: Path, probes: Sequence[bytes], requests: int) -> dict[str, Any]:
    """What 1, 4 and 16 clients at once see."""
    command = [sys.executable, "-m", "facekd", "serve", str(place), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = re.search(r"http://([\d.]+):(\d+)", server.stderr.readline())
        assert address is not None
        host, port = address[1], int(address[2])
        try:
            load(host, port, probes, 16, 64)  # warm
            clients = {}
            for count in (1, 4, 16):
                before = cpu_seconds(server.pid)
                clients[count] = load(host, port, probes, count, requests)
                clients[count]["server_cpu_ms"] = round((cpu_seconds(server.pid) - before) / requests * 1e3, 1)
            stop, times = threading.Event(), list[float]()
            writer = threading.Thread(target=enroll_again, args=(host, port, probes[0], stop, times))
            writer.start()
            beside = load(host, port, probes, 16, requests)
            stop.set()
            writer.join()
            memory = {"server_mib": round(peak_mib(server.pid)), "server_requests": requests * 4}
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
    while_enrolling = {"identify": beside, "enroll": percentiles(times), "enrollments": len(times)}
    return {"clients": clients, "while_enrolling": while_enrolling, "memory": memory}


def load(host: str, port: int, probes: Sequence[bytes], clients: int, requests: int) -> dict[str, float]:
    """`requests` of /identify by as many clients at once."""
    numbers, times = itertools.count(), list[float]()

    def client() -> None:
        connection = http.client.HTTPConnection(host, port)
        while (number := next(numbers)) < requests:
            start = time.perf_counter()
            connection.request("POST", "/identify", probes[number % len(probes)], {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            times.append(time.perf_counter() - start)
            assert answer.status == 200, body
        connection.close()

    start = time.perf_counter()
    together(client, clients)
    return {"requests_per_second": round(requests / (time.perf_counter() - start), 1), **percentiles(times)}


def enroll_again(host: str, port: int, photo: bytes, stop: threading.Event, times: list[float]) -> None:
    """Enroll somebody, erase them, and so on."""
    head = f"--{EDGE}\r\nContent-Disposition: form-data; name="
    person = f'{head}"person"\r\n\r\npassing\r\n'.encode()
    accept = f'{head}"accept_suspects"\r\n\r\ntrue\r\n'.encode()
    file = f'{head}"photo"; filename="a.jpg"\r\n\r\n'.encode() + photo + b"\r\n"
    end = f"--{EDGE}--\r\n".encode()
    while not stop.is_set():
        for path, body in (("/enroll", person + accept + file + end), ("/delete", person + end)):
            connection = http.client.HTTPConnection(host, port)
            start = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={EDGE}"})
            answer = connection.getresponse()
            said = answer.read()
            if path == "/enroll":
                times.append(time.perf_counter() - start)
            connection.close()
            assert answer.status == 200, said


def from_python(gallery: Gallery, embedder: Embedder, probes: Sequence[bytes]) -> dict[str, Any]:
    """Milliseconds of one photo, in this process."""
    vectors = [embedder.embed_photos(photo)[0].vectors[0] for photo in probes[:200]]
    template = GalleryTable.open(gallery.path)
    return {
        "identify": timed(lambda n: gallery.identify(probes[n % len(probes)])),
        "embed_photos": timed(lambda n: embedder.embed_photos(probes[n % len(probes)], choose="all")),
        "identify a ready embedding": timed(lambda n: gallery.identify(vectors[n % len(vectors)])),
        "its audit note": timed(lambda n: template.note("benchmark")),
    }


def after_calls(gallery: Gallery, embedder: Embedder, probes: Sequence[bytes], calls: int) -> dict[str, Any]:
    """Resident MiB of this process on the way."""
    ready = embedder.embed_photos(probes[0])[0].vectors[0]
    person = gallery.identify(probes[0], threshold=-1).faces[0].person
    assert person is not None
    kinds: list[Callable[[bytes], object]] = [
        gallery.identify,
        lambda photo: gallery.verify(person, photo),
        embedder.embed_photos,
        lambda photo: embedder.compare(photo, ready),
    ]
    found: dict[str, Any] = {}
    for number in range(1, calls + 1):
        kinds[number % 4](probes[number % len(probes)])
        if number in (1000, calls):
            found[f"python_after_{number}_calls_mib"] = round(resident_mib(os.getpid()), 1)
    return found


def timed(call: Callable[[int], object], calls: int = 400) -> dict[str, float]:
    times = []
    for number in range(calls):
        start = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - start)
    return percentiles(times[calls // 10 :])


def percentiles(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def together(call: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resident_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main()

"""No command looks anything up or connects anywhere, whatever the libraries under it would like to tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from traced import needs_strace, outgoing, trace

from facekd.deploy.default import default_model
from facekd.photos.synth import jpeg, person, render

SMALL = ["--net", "mobilefacenet-half", "--dim", "16", "--epochs", "1", "--batch", "8", "--held-out", "0.3"]


def test_a_look_up_is_seen_and_this_machine_is_not_outside() -> None:
    said = """
    7 connect(6, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
    7 connect(6, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0
    8 connect(6, {sa_family=AF_INET, sin_port=htons(6379), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
    8 connect(6, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1
    8 connect(6, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0
    9 sendto(4, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("169.254.169.254")}, 16 <unfinished ...>
    """  # noqa: E501  # as strace writes it
    assert outgoing(said) == ["127.0.0.53:53", "169.254.169.254:80", "2001:db8::1:443"]


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_photos_to_a_student_and_its_rates(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "photos" / f"p{number % 8}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(render(person(2, number % 8), 2, number)))
    model = default_model()
    for words in (
        ["doctor"],
        ["align", "photos", "crops"],
        ["embed", "crops", "crops.parquet"],
        ["verify", "--model", model, "--crops", "crops", "--all-pairs"],
        ["distill", "--teacher", model, "--teacher-backend", "openvino", "--data", "crops", "--out", "run", *SMALL],
        ["export", "run", "run.onnx"],
    ):
        code, said, found = trace(words, tmp_path, tmp_path / "trace")
        assert code == 0, said
        assert found == [], words

"""facekd serve: a gallery over HTTP, and a page to drop photos on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.core.printable import counted
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.photos import (
    EnrollDecision,
    EnrolledFaces,
    EnrollReport,
    ModelFile,
    QualityGate,
    SearchDecision,
)
from facekd.settings.serving import Listening, UploadLimits

if TYPE_CHECKING:
    from facekd.commands.gallery import Erased
    from facekd.enrollment.report import EnrollSummary
    from facekd.enrollment.sources import People


@dataclass(frozen=True, slots=True)
class Served:
    """A server that was ended."""

    address: str


@door
def serve(
    gallery: Path,
    *,
    model: Path | None = None,
    listening: Listening = Listening(),
    limits: UploadLimits = UploadLimits(),
    decision: SearchDecision = SearchDecision(),
    quiet: bool = False,
) -> Served:
    """Answer over HTTP who is in a photo: /embed, /compare, /identify, /enroll, /delete, /health and a page.

    /openapi.json describes it. Photos stay in memory and are never written; ids of people come in the body, so that no
    URL names anybody; requests are not logged, the gallery's audit log counts what was done. Photos are enrolled by the
    same decisions as with 'facekd enroll', which may run beside it. SIGTERM ends it once running requests are done.

    The server speaks plain HTTP: beyond this machine put a proxy with TLS before it.

    Example: facekd serve staff.gallery

    Example: facekd serve staff.gallery --host 0.0.0.0 --token-file token

    Args:
        gallery: A gallery that 'facekd enroll' made: its folder or s3:// prefix.
        model: Run folder or ONNX file of the gallery's model, where it has moved since the enrollment.
        quiet: Print nothing.
    """
    from facekd import __version__
    from facekd.commands.enroll import enroll_people
    from facekd.commands.gallery import delete
    from facekd.core.system import cores
    from facekd.enrollment.identification import changed_weights, gallery_embedder
    from facekd.gallery.gallery import GalleryTable
    from facekd.serving.app import make_app
    from facekd.serving.guard import is_loopback, read_token
    from facekd.serving.server import bound, run
    from facekd.serving.service import Service
    from facekd.serving.upload import Limits

    token = read_token(listening.token_file)
    if token is None and not is_loopback(listening.host):
        raise UserError(
            f"--host {listening.host}: other machines can reach it, so clients have to show a token; make one: "
            "(umask 077; openssl rand -hex 32 > token), and give --token-file token"
        )
    home = GalleryTable.open(gallery)
    embedder = gallery_embedder(home, model)

    def enroll(people: People, accept: bool) -> EnrollSummary:
        return enroll_people(
            people,
            gallery,
            embedder,
            root=None,
            network=ModelFile(model=embedder.network.path),
            faces=EnrolledFaces(),
            quality=QualityGate(),
            decision=EnrollDecision(accept_suspects=accept),
            output=EnrollReport(),
            quiet=True,
        )

    def erase(person: str) -> Erased:
        return delete(str(gallery), person, quiet=True)

    service = Service(gallery, embedder, decision, enroll, erase)
    home = service.ready()
    threads = cores()
    photos = Limits(int(limits.max_photo_mb * 1e6), limits.max_photos)
    app = make_app(service, photos, token, threads, limits.waiting, __version__)
    before = os.umask(0o077)  # for all threads: what any of them writes is for its owner only
    try:
        with bound(listening.host, listening.port) as at:
            host, port = at.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            if note := changed_weights(home):
                say(note, quiet)
            say(f"{home.place}: {counted(len(home), 'person', 'people')}, served at {address}; Ctrl-C ends it", quiet)
            if not is_loopback(listening.host):
                say("photos and the token travel unencrypted: put a proxy with TLS before it", quiet)
            home.note("serve", port=port, token=token is not None)
            run(app, at)
    finally:
        os.umask(before)
    return Served(address)

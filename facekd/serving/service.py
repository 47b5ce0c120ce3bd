"""What the server does with photos, without HTTP: one gallery, one embedder, any number of threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from facekd.core.choices import Choice
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds
from facekd.enrollment.calibration import NamedFrom, gallery_thresholds
from facekd.enrollment.comparison import threshold_for
from facekd.enrollment.identification import identify_embedded, known_threshold
from facekd.enrollment.report import EnrollSummary
from facekd.enrollment.request import search_in
from facekd.enrollment.sources import People, check_id, given_people
from facekd.errors import BusyError, UserError
from facekd.gallery.current import CurrentGallery
from facekd.gallery.gallery import GalleryTable
from facekd.ingest.alignment import detector_of
from facekd.ingest.given import people_of
from facekd.ingest.photos import EmbeddedPhoto, embed_batch
from facekd.photos.memory import held
from facekd.serving import answers
from facekd.serving.refusal import Refusal, busy
from facekd.settings.photos import PairDecision, SearchDecision

WAIT = 10.0  # seconds that an enrollment waits for another process that writes the gallery
AGAIN = 30  # seconds after which its client may try again
REFUSED = {"unreadable": 400, "too_large": 413}  # of a request none of whose photos is one


class Erasure(Protocol):
    """What erased somebody."""

    @property
    def enrolled(self) -> tuple[str, ...]: ...
    @property
    def receipt(self) -> str: ...


class Service:
    """The answers; each call reads the gallery as it is at that moment.

    Args:
        decision: given for this server; what is left open in it the gallery says.
        enroll: takes in some people, or their suspects too, as ``facekd enroll`` does.
        erase: takes somebody out, as ``facekd gallery delete`` does.
    """

    def __init__(
        self,
        gallery: Path,
        embedder: CropEmbedder,
        decision: SearchDecision,
        enroll: Callable[[People, bool], EnrollSummary],
        erase: Callable[[str], Erasure],
    ) -> None:
        self.embedder = embedder
        self._gallery, self._decision, self._enroll, self._erase = gallery, decision, enroll, erase
        self._current = CurrentGallery(gallery, embedder.model_id)
        self._thresholds = model_thresholds(embedder.network.path, embedder.contract)  # a file is read for them

    def ready(self) -> GalleryTable:
        """Load all that the first request would wait for.

        Raises:
            UserError: no gallery, one of another model, no threshold is known, or the detector can't be loaded.
        """
        home = self._current.now()
        self._named_from(home)
        detector_of(search_in(home.meta))
        return home

    def health(self) -> answers.Health:
        """Whether the gallery can be read."""
        try:
            len(self._current.now())
        except UserError as error:
            raise busy("the gallery can't be read at the moment", AGAIN) from error
        return answers.Health(status="ok")

    def embed(self, photos: Sequence[bytes], choose: Choice) -> answers.Embedding:
        """The faces of photos and their embeddings."""
        home = self._current.now()
        embedded = self._embedded(home, photos, choose)
        home.note("embed", photos=len(photos), faces=sum(len(photo.vectors) for photo in embedded))
        return answers.Embedding(
            model_id=self.embedder.model_id,
            photos=[
                answers.EmbeddedSeen(
                    **_seen(photo),
                    faces=[
                        answers.FoundEmbedding(**face, embedding=vector.tolist())
                        for face, vector in zip(_faces(photo), photo.vectors, strict=True)
                    ],
                )
                for photo in embedded
            ],
        )

    def compare(
        self, photos: Sequence[bytes], person: str | None, far: float | None, threshold: float | None
    ) -> answers.Verdict:
        """Whether two photos, or one and an enrolled person, show the same person."""
        home = self._current.now()
        known = self._thresholds if person is None else gallery_thresholds(home.meta)
        try:
            threshold, far = threshold_for(PairDecision(threshold=threshold, far=far), known, self._gallery)
        except UserError as error:
            raise Refusal(422, str(error)) from error
        vectors = []
        if person is not None:
            enrolled = home.people([person]).get(person)
            if enrolled is None:
                raise Refusal(404, "nobody of that id is enrolled")
            vectors.append(enrolled.template)
        failed = []
        for place, photo in enumerate(self._embedded(home, photos, "best"), 1):
            vectors += list(photo.vectors)
            failed += [] if photo.ok else [f"photo {place}: {photo.status}, {photo.reason}"]
        score = None if failed else max(-1.0, min(1.0, float(vectors[0] @ vectors[1])))
        same = score is not None and score >= threshold
        home.note("same", photos=len(photos), same=same, threshold=threshold)
        return answers.Verdict(same=same, score=score, threshold=threshold, far=far, reason="; ".join(failed))

    def identify(self, photos: Sequence[bytes], top: int) -> answers.Identity:
        """Who the faces in photos show."""
        home = self._current.now()
        people = len(home)
        try:
            named_from = self._named_from(home)
        except UserError as error:  # there was one at the start, and people were written or erased since
            raise busy("no threshold is known until the enrollment that is running has measured one", AGAIN) from error
        embedded = self._embedded(home, photos, "all")
        faces = iter(identify_embedded(home, embedded, named_from, top).faces)
        return answers.Identity(
            threshold=named_from.threshold,
            people=people,
            photos=[
                answers.NamedSeen(
                    **_seen(photo),
                    faces=[
                        answers.Named(
                            **face,
                            verdict="unknown" if found.person is None else "known",
                            person=found.person,
                            score=found.score,
                            threshold=found.threshold,
                            candidates=[answers.Candidate(person=one, score=score) for one, score in found.candidates],
                        )
                        for face, found in zip(_faces(photo), faces, strict=False)  # which goes on with the next photo
                    ],
                )
                for photo in embedded
            ],
        )

    def enroll(self, person: str, photos: Sequence[bytes], accept: bool) -> answers.Enrolled:
        """Enroll a person, or add photos to one.

        Raises:
            Refusal: 409 held back as a suspected mix-up, 422 no photo can be used or no id, 503 the gallery is busy.
        """
        try:
            people = given_people({person: photos}, self.embedder.model_id)
        except UserError as error:
            raise Refusal(422, str(error)) from error
        (person,) = people.ids()  # in its composed form
        self._current.now()  # else one that is gone, as a disk that is not mounted, would be begun anew
        summary: EnrollSummary = _patiently(lambda: self._enroll(people, accept))
        # Another id where it was decided that this one is the same person.
        person = [*summary.new, *summary.changed, *summary.held_back, *summary.not_enrolled, person][0]
        names = [item.source for item in people_of({person: photos}, self.embedder.model_id)]  # in the order given
        fate = {photo.source: photo for photo in summary.failed}
        held_back = person in summary.held_back
        taken = [
            answers.Taken(status=fate[name].status, reason=fate[name].reason)
            if name in fate
            else answers.Taken(status="held_back" if held_back else "ok", reason="")
            for name in names
        ]
        places = {name: place for place, name in reversed(list(enumerate(names)))}
        suspects = [
            answers.Suspicion(
                kind=one.kind,
                other=one.person if one.other == person else one.other,  # whichever of the two is named first
                photo=places.get(one.source or ""),
                score=one.score,
            )
            for one in summary.suspects
        ]
        told = {"person": person, "photos": taken, "suspects": suspects}
        if held_back or (suspects and all(photo.status != "ok" for photo in taken)):
            others = [one.other for one in suspects if one.other is not None]
            why = f"looks like {others[0]}, who is enrolled" if others else "not all photos show one person"
            remedy = "look at them, and send accept_suspects=true where it is right"
            raise _not_enrolled(409, f"held back as a suspected mix-up: {why}; {remedy}", told)
        if all(photo.status != "ok" for photo in taken):
            raise _not_enrolled(422, f"no photo can be used: {taken[0].status}, {taken[0].reason}", told)
        threshold = None
        with contextlib.suppress(UserError):  # enrolled is enrolled
            threshold = self._named_from(self._current.now()).threshold
        outcome: Literal["new", "changed", "unchanged"] = "unchanged"
        if person in summary.new:
            outcome = "new"
        elif person in summary.changed:
            outcome = "changed"
        return answers.Enrolled(
            person=person,
            outcome=outcome,
            people=summary.enrolled,
            threshold=threshold,
            photos=taken,
            suspects=suspects,
        )

    def delete(self, person: str) -> answers.Deleted:
        """Erase a person, every byte.

        Raises:
            Refusal: 404 was not enrolled, 422 no id, 503 the gallery is busy.
        """
        try:
            check_id(person)
        except UserError as error:
            raise Refusal(422, str(error)) from error
        erased: Erasure = _patiently(lambda: self._erase(person))
        if not erased.enrolled:
            raise Refusal(404, "nobody of that id is enrolled")
        return answers.Deleted(person=person, receipt=erased.receipt)

    def _named_from(self, home: GalleryTable) -> NamedFrom:
        """From which score a face is named: the one place where the server decides that.

        Raises:
            UserError: no threshold is known.
        """
        asked = self._decision
        return known_threshold(asked.threshold, home, self._gallery, quiet=True, fpir=asked.fpir)

    def _embedded(self, home: GalleryTable, photos: Sequence[bytes], choose: Choice) -> list[EmbeddedPhoto]:
        """Photos as the gallery's people were looked for.

        Raises:
            Refusal: none of them is a photo.
        """
        items = [held(photo, f"photo {place}") for place, photo in enumerate(photos, 1)]
        embedded = embed_batch(items, lambda: self.embedder, search_in(home.meta), choose)
        status = embedded[0].status
        if status in REFUSED and all(photo.status in REFUSED for photo in embedded):
            raise Refusal(REFUSED[status], f"not a photo that can be taken: {embedded[0].reason}")
        return embedded


def _patiently(write: Callable[[], Any]) -> Any:
    """`write`, once nobody else writes the gallery.

    Raises:
        Refusal: 503, somebody else still does.
    """
    end = time.monotonic() + WAIT
    while True:
        try:
            return write()
        except BusyError as error:
            if time.monotonic() > end:
                raise busy("another command is writing the gallery; send this again when it is done", AGAIN) from error
            time.sleep(0.2)


def _not_enrolled(status: int, error: str, told: dict[str, Any]) -> Refusal:
    body = answers.NotEnrolled(error=error, **told).model_dump()
    return Refusal(status, body.pop("error"), body)


def _seen(photo: EmbeddedPhoto) -> dict[str, Any]:
    record = photo.record
    return {"status": photo.status, "reason": photo.reason, "width": record.width, "height": record.height}


def _faces(photo: EmbeddedPhoto) -> Iterator[dict[str, Any]]:
    for crop in photo.record.crops if photo.ok else ():
        yield {"box": list(crop.box), "confidence": crop.score}

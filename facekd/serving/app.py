"""The server's HTTP front: what can be asked, how much at once, and the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from facekd.core.printable import printable_line
from facekd.errors import UserError
from facekd.reports.colors import themes
from facekd.serving import answers
from facekd.serving.guard import Guard
from facekd.serving.refusal import Refusal, busy
from facekd.serving.service import Service
from facekd.serving.upload import FORM, Limits, Upload, Uploads

T = TypeVar("T")
HERE = Path(__file__).parent
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
WRITES = 8  # enrollments and deletions that wait for each other
ABOUT = """Who is in a photo, by one gallery. Photos come as the body itself or as files of a form, and are held in
memory only. Errors are `{"error": "one sentence"}`. A photo without a face is an answer, not an error."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": answers.Problem, "description": "No image, or a damaged one."},
    401: {"model": answers.Problem, "description": "No valid token."},
    413: {"model": answers.Problem, "description": "Too many bytes, pixels or photos."},
    415: {"model": answers.Problem, "description": "Neither a photo nor a form."},
    422: {"model": answers.Problem, "description": "Something is missing or can't be."},
    503: {"model": answers.Problem, "description": "Busy; Retry-After says when to ask again."},
}
ABSENT: dict[int | str, dict[str, Any]] = {
    404: {"model": answers.Problem, "description": "Nobody of that id is enrolled."}
}
HELD_BACK: dict[int | str, dict[str, Any]] = {
    409: {"model": answers.NotEnrolled, "description": "Held back as a suspected mix-up; nothing was written."},
    422: {"model": answers.NotEnrolled, "description": "No photo can be used, or no id."},
}


class Work:
    """Threads that answer, as many as there are cores, and one that writes; what waits for them is bounded.

    Args:
        threads: photos looked at together.
        waiting: requests that may wait or be worked at; one more is refused.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._reading = ThreadPoolExecutor(threads, "photos")
        self._writing = ThreadPoolExecutor(1, "gallery")
        self._waiting = waiting
        self._reads = self._writes = 0

    def check(self, *, writes: bool) -> None:
        """Refuse where there is no room, before a body is read.

        Raises:
            Refusal: 503.
        """
        if self._writes >= WRITES if writes else self._reads >= self._waiting:
            raise busy("too many requests at once; send this one again", 1)

    async def read(self, call: Callable[[], T]) -> T:
        """`call` in a thread, beside others."""
        self.check(writes=False)
        self._reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, call)
        finally:
            self._reads -= 1

    async def write(self, call: Callable[[], T]) -> T:
        """`call` in a thread, one after the other."""
        self.check(writes=True)
        self._writes += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, call)
        finally:
            self._writes -= 1

    def finish(self) -> None:
        """Wait for what was begun."""
        self._writing.shutdown()
        self._reading.shutdown()


def make_app(service: Service, limits: Limits, token: str | None, threads: int, waiting: int, version: str) -> FastAPI:
    """The application.

    Args:
        token: that has to be sent; None where everybody on this machine may ask.
        threads: photos looked at together.
        waiting: requests that may wait or be worked at.
        version: of facekd.
    """
    work = Work(threads, waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        work.finish()

    app = FastAPI(
        title="facekd",
        version=version,
        description=ABOUT,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        middleware=[Middleware(Guard, token=token)],
        dependencies=[] if token is None else [Depends(HTTPBearer(auto_error=False))],  # tells of the token; Guard asks
    )
    _add_errors(app)
    _add_page(app)
    _add_questions(app, service, Uploads(limits), work)
    return app


def _add_questions(app: FastAPI, service: Service, uploads: Uploads, work: Work) -> None:
    most = uploads.limits.photos
    person = {"type": "string", "description": "A person's id."}
    accept = {"type": "boolean", "description": "Enroll what looks like a mix-up too.", "default": False}

    @app.get("/health", response_model=answers.Health)
    async def health() -> answers.Health:
        """Whether the gallery can be read; needs no token."""
        return await asyncio.to_thread(service.health)

    @app.post("/embed", response_model=answers.Embedding, responses=REFUSALS, openapi_extra=_body(most))
    async def embed(
        request: Request, choose: Annotated[Literal["all", "best", "largest", "center"], Query()] = "all"
    ) -> Any:
        """Find faces in photos and embed them."""
        work.check(writes=False)
        async with uploads.of(request, 1, most) as upload:
            _fields(upload)
            return await work.read(lambda: service.embed(upload.photos, choose))

    @app.post(
        "/compare",
        response_model=answers.Verdict,
        responses={**REFUSALS, **ABSENT},
        openapi_extra=_body(2, {"person": person}, alone=False),
    )
    async def compare(
        request: Request,
        far: Annotated[
            float | None, Query(gt=0, lt=1, description="Which calibrated threshold; usually 0.001.")
        ] = None,
        threshold: Annotated[float | None, Query(ge=-1, le=1, description="Another threshold.")] = None,
    ) -> Any:
        """Say whether two photos, or one photo and an enrolled person, show the same person."""
        work.check(writes=False)
        async with uploads.of(request, 1, 2) as upload:
            who = _fields(upload, "person").get("person")
            if len(upload.photos) != (2 if who is None else 1):
                raise Refusal(422, "send two photos, or one photo and the field person")
            return await work.read(lambda: service.compare(upload.photos, who, far, threshold))

    @app.post("/identify", response_model=answers.Identity, responses=REFUSALS, openapi_extra=_body(most))
    async def identify(
        request: Request, top: Annotated[int, Query(ge=1, le=100, description="Candidates for each face.")] = 1
    ) -> Any:
        """Name the people in photos, or say that they are unknown."""
        work.check(writes=False)
        async with uploads.of(request, 1, most) as upload:
            _fields(upload)
            return await work.read(lambda: service.identify(upload.photos, top))

    @app.post(
        "/enroll",
        response_model=answers.Enrolled,
        responses={**REFUSALS, **HELD_BACK},
        openapi_extra=_body(most, {"person": person, "accept_suspects": accept}, ["person"], alone=False),
    )
    async def enroll(request: Request) -> Any:
        """Enroll a person, or add photos to one; what looks like a mix-up is held back."""
        work.check(writes=True)
        async with uploads.of(request, 1, most) as upload:
            fields = _fields(upload, "person", "accept_suspects")
            accepted = fields.get("accept_suspects", "false")
            if "person" not in fields or accepted not in ("true", "false"):
                raise Refusal(422, "send the field person; accept_suspects is true or false")
            return await work.write(lambda: service.enroll(fields["person"], upload.photos, accepted == "true"))

    @app.post(
        "/delete",
        response_model=answers.Deleted,
        responses={**REFUSALS, **ABSENT},
        openapi_extra=_body(0, {"person": person}, ["person"], alone=False),
    )
    async def delete(request: Request) -> Any:
        """Erase a person: template, id, photo names, index and old versions."""
        work.check(writes=True)
        async with uploads.of(request, 0, 0) as upload:
            fields = _fields(upload, "person")
            if "person" not in fields:
                raise Refusal(422, "send the field person")
            return await work.write(lambda: service.delete(fields["person"]))


def _fields(upload: Upload, *names: str) -> dict[str, str]:
    """The fields of a form.

    Raises:
        Refusal: 422, one that is not among `names`.
    """
    for name in upload.fields:
        if name not in names:
            raise Refusal(422, f"there is no field {printable_line(name)[:40]!r}; a photo is a part with a filename")
    return dict(upload.fields)


def _body(
    photos: int, fields: dict[str, Any] | None = None, required: list[str] | None = None, *, alone: bool = True
) -> dict[str, Any]:
    """How OpenAPI tells of a request's body.

    Args:
        photos: most of them.
        alone: whether one photo may be the body itself.
    """
    file = {"type": "string", "format": "binary"}
    properties = {
        **({"photo": {"type": "array", "items": file, "maxItems": photos}} if photos else {}),
        **(fields or {}),
    }
    wanted = [*(["photo"] if photos else []), *(required or [])]
    content: dict[str, Any] = {FORM: {"schema": {"type": "object", "properties": properties, "required": wanted}}}
    if alone:
        content |= {kind: {"schema": file} for kind in ("image/jpeg", "image/png", "application/octet-stream")}
    return {"requestBody": {"required": True, "content": content}}


def _add_page(app: FastAPI) -> None:
    def page(file: str, kind: str) -> Callable[[], Response]:
        text = (themes() if kind == "text/css" else "") + (HERE / file).read_text(encoding="utf-8")
        return lambda: Response(text, media_type=kind)

    for path, (file, kind) in PAGE.items():
        app.add_api_route(path, page(file, kind), include_in_schema=False)


def _add_errors(app: FastAPI) -> None:
    """Every error as JSON with one sentence."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": error.error, **error.more}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def no_such_place(_: Request, error: HTTPException) -> JSONResponse:
        told = {404: "there is nothing here; /openapi.json says what there is", 405: "not by this method"}
        return JSONResponse({"error": told.get(error.status_code, str(error.detail))}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_value(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {printable_line(str(first['msg']))}"}, 422)

    @app.exception_handler(UserError)
    async def gallery_trouble(_: Request, error: UserError) -> JSONResponse:
        """The gallery is damaged, gone or of another model, or its disk is full: its keeper's matter."""
        return JSONResponse({"error": str(error)}, 500)

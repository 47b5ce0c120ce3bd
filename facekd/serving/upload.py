"""The photos of a request, held in memory and never on disk, within limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from facekd.core.printable import printable_line
from facekd.serving.refusal import Refusal, busy

PAUSE = 10.0  # seconds that may pass between two pieces of a body
WHOLE = 120.0  # seconds for all of it
HELD = 512 << 20  # bytes of all requests together
OVERHEAD = 64 << 10  # bytes of a form beside its photos
FIELDS, FIELD = 16, 4096  # of a form beside its photos, and bytes of each
DRAINED, DRAIN = 64 << 20, 5.0  # bytes and seconds of a refused body that are still read, so that its client hears why
PHOTO = "photo"  # the name of a form's files
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring."""

    photo_bytes: int
    photos: int


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request brought."""

    photos: tuple[bytes, ...]
    fields: Mapping[str, str]  # of a form


class Uploads:
    """The bodies of a server's requests, which share `HELD` bytes of memory."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request, least: int, most: int) -> AsyncIterator[Upload]:
        """The photos of a request: the body itself, or the files of a form.

        Args:
            least, most: photos wanted.

        Raises:
            Refusal: 400 torn, 408 too slow, 413 too large, 415 of another kind, 422 not as many photos, 503 no room.
        """
        own = [0]  # bytes of this request
        try:
            try:
                async with asyncio.timeout(WHOLE):
                    upload = await self._read(request, most, own)
            except TimeoutError as error:
                raise Refusal(
                    408, f"the body paused for {PAUSE:.0f} seconds or took {WHOLE:.0f}; send it again"
                ) from error
            except ClientDisconnect as error:
                raise Refusal(400, "the connection ended before the body did") from error
            if not least <= len(upload.photos) <= most:
                wanted = f"{least} to {most}" if least < most else str(most)
                raise Refusal(422, f"{len(upload.photos)} photos came; send {wanted}")
            yield upload
        finally:
            self._held -= own[0]

    async def _read(self, request: Request, most: int, own: list[int]) -> Upload:
        try:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != FORM and kind != "application/octet-stream" and not kind.startswith("image/"):
                raise Refusal(
                    415,
                    f"a body of type {printable_line(kind) or 'unknown'}; send one photo as image/jpeg, image/png or "
                    f"application/octet-stream, or several as files of a {FORM}",
                )
            limit = self.limits.photo_bytes
            if kind == FORM:
                limit = limit * most + OVERHEAD
            announced = request.headers.get("content-length", "")
            if announced.isdecimal() and int(announced) > limit:
                raise too_large(limit)
            pieces = self._pieces(request, limit, own)
            if kind != FORM:
                return Upload((b"".join([piece async for piece in pieces]),), {})
            return await _Form(request.headers, pieces, self.limits.photo_bytes, most).upload()
        except Refusal:
            await _drain(request)
            raise

    async def _pieces(self, request: Request, limit: int, own: list[int]) -> AsyncGenerator[bytes, None]:
        pieces = request.stream()
        while True:
            try:
                async with asyncio.timeout(PAUSE):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            if own[0] + len(piece) > limit:
                raise too_large(limit)
            if self._held + len(piece) > HELD:
                raise busy("too many photos are on their way here; send this one again", 2)
            own[0] += len(piece)
            self._held += len(piece)
            yield piece


class _Form(MultiPartParser):
    """A form whose files stay in memory."""

    spool_max_size = 0  # that is, without end: Starlette's own 1 MiB would put a photo on the disk

    def __init__(self, headers: Headers, pieces: AsyncGenerator[bytes, None], photo_bytes: int, most: int) -> None:
        super().__init__(headers, pieces, max_fields=FIELDS, max_part_size=FIELD)
        self._photo_bytes, self._most = photo_bytes, most
        self._size = self._photos = 0
        self._whole = False

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        self._size = 0
        self._photos += self._current_part.file is not None
        if self._photos > self._most:
            raise Refusal(413, f"more than {self._most} photos in one request; send them in several")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._current_part.file is not None and self._size > self._photo_bytes:
            raise too_large(self._photo_bytes)
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self._whole = True

    async def upload(self) -> Upload:
        """The photos in their order, and the fields.

        Raises:
            Refusal: 400 no form, 413, or 422 a name that is none, or a field twice.
        """
        try:
            form = await self.parse()
        except MultiPartException as error:
            raise Refusal(400, f"the form can't be read: {printable_line(error.message).rstrip('.')}") from error
        try:
            if not self._whole:
                raise Refusal(400, "the form can't be read: its end is missing")
            photos: list[bytes] = []
            fields: dict[str, str] = {}
            for name, part in form.multi_items():
                if isinstance(part, UploadFile):
                    if name != PHOTO:
                        raise Refusal(422, f"a file of the name {_short(name)!r}; a photo's name is {PHOTO!r}")
                    photos.append(await part.read())
                elif name in fields:
                    raise Refusal(422, f"the field {_short(name)!r} twice; send it once")
                else:
                    fields[name] = part
        finally:
            await form.close()
        return Upload(tuple(photos), fields)


def _short(name: str) -> str:
    return printable_line(name)[:40]


def too_large(limit: int) -> Refusal:
    """413 of a body or photo above `limit` bytes."""
    return Refusal(413, f"larger than {limit / 1e6:.1f} MB; shrink the photo, or send fewer at once")


async def _drain(request: Request) -> None:
    """Read on for a while without keeping anything: a connection closed at once may lose the answer."""
    read = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last where it was read to its end
        async with asyncio.timeout(DRAIN):
            async for piece in request.stream():
                read += len(piece)
                if read > DRAINED:
                    return

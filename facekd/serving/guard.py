"""Who may ask: the token, and what keeps other web pages in a user's browser from asking in their name."""

from __future__ import annotations

import hmac
import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facekd.core.files import make_secret, read_secret
from facekd.errors import UserError

TOKEN = "FACEKD_TOKEN"  # environment variable
SHORTEST = 16  # characters of a token
OPEN = ("/", "/page.js", "/page.css", "/health", "/openapi.json")  # which tell nothing of anybody
# The page may load what the server itself sends and nothing else; a photo is shown from the user's own file.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses who may not ask, before a body is read, and puts `HEADERS` on every answer.

    Without a token the server is for this machine's users alone, and the danger is a web page that one of them has
    open: it could have its own name resolve to 127.0.0.1, or post a form there. So the Host has to be this machine,
    and a request that says where it comes from has to come from the server's own page. With a token neither helps such
    a page, which does not have it; a proxy in front may then call the server as it likes.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        status, error = self._refusal(scope, Headers(scope=scope))
        if not status:
            await self.app(scope, receive, sent)
            return
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        await JSONResponse({"error": error}, status, headers)(scope, receive, sent)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str]:
        """Status and sentence; 0 where nothing is wrong."""
        changing = scope["method"] not in ("GET", "HEAD")
        if changing and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "asked by another site's page; use the server's own page, or a program"
        if self._token is None:
            host = headers.get("host", "")
            if not is_loopback(urlsplit(f"//{host}").hostname or ""):
                return 421, "the Host is not this machine; ask at 127.0.0.1, or start the server with a token"
            origin = headers.get("origin")
            if changing and origin is not None and urlsplit(origin).netloc != host:
                return 403, "asked by another site's page; use the server's own page, or a program"
        elif scope["path"] not in OPEN and not self._holds(headers.get("authorization", "")):
            return 401, "no valid token; send it as 'Authorization: Bearer TOKEN'"
        return 0, ""

    def _holds(self, authorization: str) -> bool:
        kind, _, given = authorization.partition(" ")
        assert self._token is not None
        right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        return right and kind.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own and can be reached from nowhere else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None) -> str | None:
    """The token in `file`, else in the environment variable FACEKD_TOKEN; None where neither is given.

    Raises:
        UserError: no token there, one that is too short or can't be sent, or a file that others can read. The token is
            in no message.
    """
    if file is None:
        if TOKEN not in os.environ:
            return None
        text, where = os.environ[TOKEN].strip(), f"the environment variable {TOKEN}"
        make = f"{TOKEN}=$(openssl rand -hex 32)"
    else:
        text, where, make = read_secret(file, "token"), str(file), make_secret(file)
    if len(text) < SHORTEST or not all("!" <= sign <= "~" for sign in text):
        raise UserError(
            f"{where}: a token is {SHORTEST} or more letters, digits and signs in one line; make one: {make}"
        )
    return text

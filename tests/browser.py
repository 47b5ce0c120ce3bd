"""Headless Chromium that is told what to do, by DevTools' protocol over two pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab.

    Attributes:
        complaints: what the page wrote to the console, and what the browser blocked.
        requests: every address that was asked for.
    """

    def __init__(self, asked: int, answered: int) -> None:
        self._asked = os.fdopen(asked, "wb", buffering=0)
        self._answered = os.fdopen(answered, "rb")
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def begin(self) -> None:
        """Open the tab."""
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command's result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._asked.write(json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return dict(said["result"])

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._answered.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            data += byte
        said: dict[str, Any] = json.loads(data)
        method, values = said.get("method"), said.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(values["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        return said

    def value(self, expression: str) -> Any:
        """What JavaScript in the page says; a promise is waited for."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """What it says once that is true."""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never: {expression}; the page says {self.value('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def open(self, address: str, width: int = 1200, height: int = 900) -> None:
        """A page in a window of that size."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.do("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def choose(self, selector: str, *files: Path) -> None:
        """Files into an <input type=file>."""
        root = self.do("DOM.getDocument")["root"]["nodeId"]
        node = self.do("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.do("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, x: float, y: float, *files: Path) -> None:
        """Files from the desktop onto a place of the page."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def keys(self, text: str) -> None:
        """Typed where the focus is; a line feed is Enter."""
        for key in text:
            press = (
                {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
                if key == "\n"
                else {"text": key}
            )
            self.do("Input.dispatchKeyEvent", type="keyDown", **press)
            self.do("Input.dispatchKeyEvent", type="keyUp", **press)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.do("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended afterwards."""
    read_asked, write_asked = os.pipe()
    read_answered, write_answered = os.pipe()

    def as_three_and_four() -> None:
        for place, handle in ((3, os.dup(read_asked)), (4, os.dup(write_answered))):
            os.dup2(handle, place)

    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *quiet.split()]
    command += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command, close_fds=False, preexec_fn=as_three_and_four, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(read_asked)
    os.close(write_answered)
    shown = Browser(write_asked, read_answered)
    try:
        shown.begin()
        yield shown
    finally:
        with contextlib.suppress(Exception):
            shown._session = None
            shown.do("Browser.close")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for file in (shown._asked, shown._answered):
            file.close()

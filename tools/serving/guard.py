"""What holds for every request: who may ask by which name, and what a browser may do with the answer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with none at all, a browser would not say that a form is this server's own
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Guard:
    """Refuses names that are not this server's, and forms of other sites; adds HEADERS to every answer.

    A page of another site can make a browser ask this server under a name of its own (DNS rebinding), but never under
    an address of digits. names: by which the server is known beside those and localhost.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()):
        self.app = app
        self.names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the same answer, whose body the server leaves out
        answer = self.refusal(scope) or self.app
        await answer(scope, receive, with_headers(send))

    def refusal(self, scope: Scope) -> Response | None:
        """What a request gets that is not answered: JSON for programs, as tools/serving/app.py does, else a line."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.known(host):
            said = f"this server is not known as {host[:100]!r}; start it with --name NAME to reach it by that name"
            status = 421
        elif scope["method"] == "POST" and origin is not None and not same_site(origin, host):
            said, status = "forms of other sites are not answered", 403
        else:
            return None
        return (
            JSONResponse({"error": said}, status) if is_api(scope["path"]) else PlainTextResponse(said + "\n", status)
        )

    def known(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{host}")
            if parts.netloc != host or "@" in host or parts.port == 0:  # .port raises ValueError for one that is none
                return False
            name = (parts.hostname or "").lower()
            if name in self.names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def same_site(origin: str, host: str) -> bool:
    """Whether a page of this origin is the server's own."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def is_api(path: str) -> bool:
    """Whether a program asks, which gets JSON."""
    return path.startswith("/api/")


def with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending

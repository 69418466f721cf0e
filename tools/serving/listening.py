"""The socket and the loop of the server."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import webbrowser
from threading import Thread
from urllib.request import ProxyHandler, build_opener

import uvicorn
from fastapi import FastAPI

from utils.errors import UserError

PATIENCE = 3  # seconds that open connections have at the end
WAIT = 120  # seconds, for the answer to --check


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections at once, before the model is loaded. UserError for an address it cannot have."""
    if port > 65535:
        raise UserError(f"--port {port}: ports end at 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {host}: no address of this machine ({error.strerror or error})") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: is in use on {host}; give another one, or 0 for a free one") from None
        raise UserError(f"--host {host} --port {port}: cannot be listened on ({error.strerror})") from None
    return made


class Announcing(uvicorn.Server):
    """A server that prints a line once it answers, and would end properly by Ctrl-C."""

    def __init__(self, config: uvicorn.Config, line: str):
        super().__init__(config)
        self.line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        print(self.line, flush=True)


def answer(app: FastAPI, listening: socket.socket, show: bool, check: bool) -> None:
    """Serve until Ctrl-C, which ends in KeyboardInterrupt. show: open a browser; check: ask once and return."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    address = address_of(listening)
    server = Announcing(config, f"{address} shows the page; Ctrl-C ends it")
    if check:
        ask_once(server, listening, address)
        return
    if show and has_screen():
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    server.run(sockets=[listening])


def ask_once(server: uvicorn.Server, listening: socket.socket, address: str) -> None:
    """Search with the first image, and print what was found."""
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        opener = build_opener(ProxyHandler({}))
        with (
            opener.open(address, timeout=WAIT) as page,
            opener.open(f"{address}api/search?query_row=0", timeout=WAIT) as found,
        ):
            page.read()
            reply = json.load(found)
    finally:
        server.should_exit = True
        thread.join(WAIT)
    print(f"{address}search?query_row=0 found {len(reply['results'])} of {reply['searched']} images")


def address_of(listening: socket.socket) -> str:
    """What a browser is given."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def has_screen() -> bool:
    """Whether a browser would open in a window, and not take the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))

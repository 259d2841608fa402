# SPDX-License-Identifier: Apache-2.0
"""A web server on this machine that serves a folder, and now and then does not."""

import contextlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL = 0.3
"""Seconds; the client must wait for less."""


class Handler(BaseHTTPRequestHandler):
    """Files with ranges; the next of ``server.faults`` happens at each GET of a tar: its name, a
    status, or a status and a header."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        server = self.server
        path = server.folder / self.path.lstrip("/")
        fault = None
        if not head and path.suffix == ".tar":
            with server.lock:
                fault = server.faults.pop(0) if server.faults else server.always
                server.requests.append((self.path, self.headers.get("Range"), fault))
        if fault == "reset":
            self.connection.close()
            self.close_connection = True
            return
        if isinstance(fault, int | tuple) or not path.is_file():
            status, header = fault if isinstance(fault, tuple) else (fault or 404, None)
            self.send_response(status)
            if header is not None:
                self.send_header(*header)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        wanted = self.headers.get("Range") if server.ranges and not head else None
        if wanted is not None:
            first, last = wanted.removeprefix("bytes=").split("-")
            whole = len(content)
            content = content[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        else:
            self.send_response(200)
        if fault == "wrong":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "short":  # no length is said, so that nothing seems to be missing
            content = content[: len(content) // 2]
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if head:
            return
        if fault in ("cut", "stall"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "stall":
                server.stopped.wait(10 * STALL)
            self.close_connection = True
            return
        self.wfile.write(content)
        server.served += len(content)


@contextlib.contextmanager
def serve(folder, faults=(), always=None, ranges=True):
    """The server with its ``url``; ``requests`` are the GETs of tars: path, range and fault."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.folder, server.faults, server.always, server.ranges = (
            folder,
            list(faults),
            always,
            ranges,
        )
        server.lock, server.stopped = threading.Lock(), threading.Event()
        server.requests, server.served, server.daemon_threads = [], 0, True
        server.handle_error = lambda *_: None  # clients that have given up
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()

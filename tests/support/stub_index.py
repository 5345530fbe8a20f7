"""An HTTP server that gives the same answer to every request, in place of the index."""

from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep


class Answers(BaseHTTPRequestHandler):
    """Answer every request with *status* and *body* after *pause_s*; want *key* if it has one."""

    protocol_version = "HTTP/1.1"
    status, body, key, pause_s = 200, b"{}", None, 0.0

    def do_GET(self):
        sleep(self.pause_s)
        is_welcome = self.key in (None, self.headers.get("api-key"))
        status, body = (self.status, self.body) if is_welcome else (401, b"Must provide an API key")
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with suppress(OSError):  # the client waits no longer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        """Write nothing."""


@contextmanager
def answering(**answers):
    """Run such a server, and yield its URL."""
    handler = type("Handler", (Answers,), answers)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

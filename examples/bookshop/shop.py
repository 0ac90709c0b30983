"""The bookshop's programs: books and orders, and, as the service `stock`, what is in stock."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOOKS = {
    "moby-dick": {"id": "moby-dick", "title": "Moby-Dick", "price": "12.50"},
    "walden": {"id": "walden", "title": "Walden", "price": "9.00"},
}


class Shop(BaseHTTPRequestHandler):
    """Answers ``/books``, ``/books/ID``, ``/orders`` and ``/stock``."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        """Show the books, one book, or what is in stock."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["books"]:
            self._answer(200, {"books": list(BOOKS.values())}, "max-age=30, public")
        elif parts == ["stock"]:
            self._answer(200, dict.fromkeys(BOOKS, 7))
        elif len(parts) == 2 and parts[0] == "books" and parts[1] in BOOKS:  # noqa: PLR2004
            self._answer(200, BOOKS[parts[1]], "max-age=30, public")
        else:
            self._answer(404, {"error": "no such book"})

    def do_POST(self):
        """Take an order."""
        size = int(self.headers.get("content-length") or 0)
        order = json.loads(self.rfile.read(size) or b"{}")
        book = BOOKS.get(order.get("book", ""))
        if book is None:
            self._answer(404, {"error": "no such book"})
        else:
            self._answer(201, {"book": book["id"], "copies": order["copies"], "state": "taken"})

    def _answer(self, status, value, cache="no-store"):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", cache)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing of each request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Shop).serve_forever()

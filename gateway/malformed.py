"""Requests that two readers could cut or read differently, each refused in words of its own.

None of the words repeats what was sent: it could be a secret.

Source: RFC 9112 sections 2.2, 2.3, 5, 6 and 7, RFC 9110 section 5
"""

from http import HTTPStatus

from gateway.call import Fields
from gateway.problem import Refused

_CLOSE = {"Connection": "close"}
_VERSIONS = ("HTTP/1.1", "HTTP/1.0")
_TOO_MANY = "The head has too many fields."
_WORDS = (
    ("Duplicate Content-Length", "The request says the length of its body more than once."),
    ("be present with", "The request says its body's length and that it comes in chunks."),
    ("Content-Length", "The length of the body is no number, or too large a one."),
    ("Transfer-Encoding", "The body comes in a coding other than 'chunked' alone."),
    ("Chunk size overflow", "A chunk of the body is larger than any number can say."),
    ("chunk", "A chunk of the body is not framed as HTTP has it."),
    ("whitespace after header value", "A field of the head is folded over two lines."),
    ("space after start line", "The first field of the head begins with a space."),
    ("header field char", "The name of a field holds a character that no name may."),
    ("header token", "The name of a field holds a character that no name may."),
    ("header value char", "The value of a field holds a control character."),
    ("Invalid HTTP header", "The head has a field that HTTP no longer knows."),
    ("CR after", "A line does not end in CR LF."),
    ("CRLF", "A line does not end in CR LF."),
    ("Expected LF", "A line does not end in CR LF."),
    ("Data after", "More came after the request that was to be the last."),
    ("Missing 'Host'", "The request must name one host."),
    ("Duplicate 'Host'", "The request must name one host."),
    ("Duplicate '", "A field that may be there once is there more than once."),
    ("Pause on PRI", "This port does not speak HTTP/2."),
    ("HTTPS traffic", "This port does not speak TLS."),
    ("HTTP version", "Only HTTP/1.1 and HTTP/1.0 are spoken here."),
    ("url", "The request's target is none."),
    ("Expected HTTP/", "The request line is not a method, a target and a version."),
    ("method", "The request's method is none that is known here."),
)


def refusal(why: str) -> Refused:
    """Return the answer to bytes that are no HTTP.

    Args:
        why: What the parser says; what it repeats of the request is not passed on.
    """
    told = why.partition("b'")[0].partition('b"')[0]
    if told == "Too many headers received":
        return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_MANY, headers=_CLOSE)
    words = next((said for sign, said in _WORDS if sign in told), None)
    return _bad(words or "The request is not valid HTTP.")


def check(method: str, protocol: str, headers: Fields) -> None:
    """See that a request whose head could be read is framed in one way only.

    Raises:
        Refused: 400, 501 or 505; the connection is of no more use.
    """
    if protocol != "HTTP/1.1" and protocol not in _VERSIONS:
        detail = "Only HTTP/1.1 and HTTP/1.0 are spoken here."
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, detail, headers=_CLOSE)
    if method == "CONNECT":
        detail = "The gateway opens no tunnels to other hosts."
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, detail, headers=_CLOSE)
    codings = headers.getall("Transfer-Encoding", None)
    if codings is None:
        return
    if protocol == "HTTP/1.0":
        raise _bad("HTTP/1.0 knows no Transfer-Encoding.")
    if len(codings) != 1 or codings[0].lower() != "chunked":
        detail = "The body comes in a coding other than 'chunked' alone."
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, detail, headers=_CLOSE)


def _bad(detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, detail, headers=_CLOSE)

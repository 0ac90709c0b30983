"""Reads HTTP answers strictly, so that a test sees whether another program's are well formed."""

import re

_HEAD = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t\x20-\x7e]*")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t\x20-\x7e\x80-\xff]*")
_BODILESS = {204, 304}


def answers(said, *, head=False):
    """Return the status, the fields by lower-case name and the body of each answer in ``said``.

    The last one may have been cut off where its body goes on; it is left out then.

    Args:
        said: All that a server sent on one connection.
        head: Whether the answers are to HEAD.
    """
    found = []
    while said:
        top, end, said = said.partition(b"\r\n\r\n")
        if not end:
            return found
        line, *lines = top.split(b"\r\n")
        seen = _HEAD.fullmatch(line)
        assert seen, line
        assert all(map(_FIELD.fullmatch, lines)), lines
        fields = {}
        for each in lines:
            name, _, value = each.partition(b":")
            fields.setdefault(name.lower().decode(), []).append(value.strip().decode("latin-1"))
        status = int(seen[1])
        assert not {"content-length", "transfer-encoding"} <= set(fields), fields
        body, rest = _body(status, fields, said, head=head)
        if body is None:
            return found
        said = rest
        found.append((status, fields, body))
        if status == 101:
            return found
    return found


def _body(status, fields, said, *, head):
    if head or status in _BODILESS or status < 200:
        return b"", said
    if "transfer-encoding" in fields:
        assert fields["transfer-encoding"] == ["chunked"], fields
        return _chunked(said)
    if "content-length" in fields:
        [length] = fields["content-length"]
        size = int(length)
        return (said[:size], said[size:]) if len(said) >= size else (None, b"")
    assert fields.get("connection") == ["close"], fields
    return said, b""


def _chunked(said):
    body = b""
    while True:
        line, end, said = said.partition(b"\r\n")
        if not end:
            return None, b""
        size = int(line, 16)
        if len(said) < size + 2:
            return None, b""
        assert said[size : size + 2] == b"\r\n", said
        body, said = body + said[:size], said[size + 2 :]
        if not size:
            return body, said

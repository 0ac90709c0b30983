"""Answers that are made here."""

import json
from dataclasses import dataclass

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.call import FRAMING, Answer
from gateway.traffic.wrong import WrongPolicy
from wherry.model.traffic import Fixed

_BODILESS = frozenset({204, 205, 304})


@dataclass(frozen=True, slots=True)
class Ready:
    """A fixed answer, encoded once."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @classmethod
    def of(cls, fixed: Fixed) -> "Ready":
        """Prepare ``fixed``.

        Raises:
            WrongPolicy: It has a body that its status cannot have, or fields that frame it.
        """
        headers = CIMultiDict((each.name, each.value) for each in fixed.headers)
        for name in headers:
            if name.lower() in FRAMING:
                raise WrongPolicy(f"mock header {name!r}", "one that does not frame the message")
        body, kind = b"", ""
        if fixed.text is not None:
            body, kind = fixed.text.encode(), "text/plain; charset=utf-8"
        elif fixed.json_ is not None:
            body, kind = json.dumps(fixed.json_).encode(), "application/json"
        if body and fixed.status in _BODILESS:
            raise WrongPolicy(f"mock: a body with status {fixed.status}", "none, or another status")
        if body:
            headers.setdefault("Content-Type", kind)
        return cls(fixed.status, CIMultiDictProxy(headers), body)

    def answer(self) -> Answer:
        """Return a new answer, of which the caller may change the fields."""
        return Answer(self.status, self.headers.copy(), self.body)

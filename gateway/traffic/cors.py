"""What pages of other origins may do with a product.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.traffic.wrong import WrongPolicy
from wherry.model.resource import seconds
from wherry.model.traffic import Cors

OWN = frozenset(
    {
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-max-age",
    }
)
"""Fields that only the gateway says where a product has a policy: the upstream's are dropped."""

_HOST = r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://(\*\.)?({_HOST}|\[[0-9a-f:.]+\])(:[0-9]{{1,5}})?")
_LABELS = re.compile(_HOST)
_ALWAYS = frozenset({"accept", "accept-language", "content-language", "content-type", "range"})
"""Field names that a page may ask for without a word; browsers list them for odd values only."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """A policy, ready to use.

    Attributes:
        everyone: Whether every origin may read the answers.
        exact: Origins that may.
        below: Beginning and end of origins that may, for every name below a domain.
        methods: That a page may use.
        headers: That a page may send, in lower case.
        said: Fields of every answer to an origin that may read it.
        agreed: Fields of the answer to a preflight, beside ``said``.
    """

    everyone: bool
    exact: frozenset[str]
    below: tuple[tuple[str, str], ...]
    methods: frozenset[str]
    headers: frozenset[str]
    said: Mapping[str, str]
    agreed: Mapping[str, str]

    @classmethod
    def of(cls, cors: Cors) -> "Sharing":
        """Prepare ``cors``.

        Raises:
            WrongPolicy: An origin is none.
        """
        exact, below = set[str](), list[tuple[str, str]]()
        for origin in cors.origins:
            form = _ORIGIN.fullmatch(origin)
            if origin in ("*", "null"):
                exact.add(origin)
            elif form is None:
                expected = "'*' or one like https://example.com or https://*.example.com"
                raise WrongPolicy(f"cors origin {origin!r}", expected)
            elif form[2]:
                below.append((f"{form[1]}://", f".{form[3]}{form[4] or ''}"))
            else:
                exact.add(origin)
        said: dict[str, str] = {}
        if cors.credentials:
            said["Access-Control-Allow-Credentials"] = "true"
        agreed = {
            "Access-Control-Allow-Methods": ", ".join(cors.methods),
            "Access-Control-Max-Age": str(int(seconds(cors.max_age))),
        }
        if cors.headers:
            agreed["Access-Control-Allow-Headers"] = ", ".join(cors.headers)
        if cors.expose:
            said["Access-Control-Expose-Headers"] = ", ".join(cors.expose)
        return cls(
            "*" in exact,
            frozenset(exact),
            tuple(below),
            frozenset(cors.methods),
            frozenset(name.lower() for name in cors.headers),
            said,
            agreed,
        )

    def admits(self, origin: str) -> bool:
        """Return whether pages of ``origin`` may read answers."""
        if self.everyone or origin in self.exact:
            return True
        return any(
            origin.startswith(start)
            and origin.endswith(end)
            and _LABELS.fullmatch(origin[len(start) : -len(end)]) is not None
            for start, end in self.below
        )

    def preflight(self, origin: str, method: str, headers: str = "") -> Mapping[str, str] | None:
        """Return the fields of the 204 that lets a page send its request, or None: it may not.

        Args:
            origin: The field ``Origin``.
            method: The field ``Access-Control-Request-Method``.
            headers: The field ``Access-Control-Request-Headers``, or nothing.
        """
        asked = {name.strip().lower() for name in headers.split(",")} - {""}
        if not self.admits(origin) or method not in self.methods:
            return None
        if not asked <= self.headers | _ALWAYS:
            return None
        fields = {**self.fields(origin), **self.agreed}
        fields.pop("Access-Control-Expose-Headers", None)
        fields["Vary"] = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        return fields

    def fields(self, origin: str | None) -> Mapping[str, str]:
        """Return the fields of an answer to ``origin``; None: the request named none.

        ``Vary`` is one more value beside those the answer has.
        """
        if self.everyone:
            return {"Access-Control-Allow-Origin": "*", **self.said}
        if origin is None or not self.admits(origin):
            return {"Vary": "Origin"}
        return {"Access-Control-Allow-Origin": origin, **self.said, "Vary": "Origin"}

"""Cookies of the gateway's own pages, which share their host with every API behind it.

Browsers keep cookies by host and not by port: what the portal sets comes with the calls of a
page to a product, and what an answer of a product sets goes to the portal. Neither may happen.

Source: RFC 6265 sections 5.2 and 8.5
"""

SESSION, VISIT = "wherry_portal", "wherry_visit"

_OURS = frozenset({SESSION, VISIT})
_MARK = "wherry_"


def without_ours(cookies: str) -> str:
    """Return the field ``Cookie`` without ours; what is left keeps its spelling."""
    if _MARK not in cookies:
        return cookies
    kept = [part for part in cookies.split(";") if _name(part) not in _OURS]
    return ";".join(kept).strip()


def sets_ours(cookie: str) -> bool:
    """Return whether a field ``Set-Cookie`` would set, or end, one of ours."""
    return _MARK in cookie and _name(cookie.partition(";")[0]) in _OURS


def _name(part: str) -> str:
    return part.partition("=")[0].strip()

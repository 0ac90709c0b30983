"""Security schemes of a document as ways to authenticate here.

The gateway takes the place of the API's own authentication: the same fields carry its keys and
tokens.
"""

from collections.abc import Mapping
from typing import Any

from gateway.traffic.openapi.document import Document, Path, WrongDocument

_DISCOVERY = "/.well-known/openid-configuration"
_SCHEMES: Path = ("components", "securitySchemes")


def methods(document: Document, names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the ways to authenticate that schemes stand for, and what is said about others.

    Args:
        document: Where they are.
        names: Of schemes, in the order in which they are tried.

    Raises:
        WrongDocument: A name is no scheme's.
    """
    found, notes = list[dict[str, Any]](), list[str]()
    for name in names:
        if name not in document.at(_SCHEMES):
            known = ", ".join(document.at(_SCHEMES)) or "none is described"
            raise WrongDocument((*_SCHEMES, name), "nothing", f"one of its schemes: {known}")
        method = _method(document.at(document.follow((*_SCHEMES, name))))
        if method is None:
            notes.append(f"security scheme {name!r} has no counterpart here and is left out")
        elif method not in found:
            found.append(method)
    return found, notes


def asked(document: Document, path: Path) -> tuple[list[str], list[str], bool]:
    """Return the schemes that an object asks for, the scopes, and whether it may do without.

    Args:
        document: Where it is.
        path: Of the document itself or of an operation.

    Raises:
        WrongDocument: Its ``security`` cannot be read.
    """
    names, scopes, free = dict[str, None](), dict[str, None](), False
    for place in range(len(document.items((*path, "security")))):
        requirement = document.at((*path, "security", place))
        free = free or not requirement
        for name in requirement:
            names.setdefault(name)
            given = document.items((*path, "security", place, name))
            if not scopes and place == 0:
                scopes.update(dict.fromkeys(map(str, given)))
    return list(names), list(scopes), free


def scopes(document: Document) -> dict[str, str]:
    """Return every scope that the document describes, with what it means."""
    found: dict[str, str] = {}
    for name in document.at(_SCHEMES):
        path = document.follow((*_SCHEMES, name))
        for flow in document.at((*path, "flows")):
            described = document.at((*path, "flows", flow, "scopes"))
            found |= {scope: str(meaning) for scope, meaning in described.items()}
    return found


def _method(scheme: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: PLR0911
    match scheme.get("type"), scheme.get("in"), str(scheme.get("scheme", "")).lower():
        case "apiKey", "header", _:
            return {"type": "apiKey", "header": scheme.get("name"), "query": None}
        case "apiKey", "query", _:
            return {"type": "apiKey", "header": None, "query": scheme.get("name")}
        case "http", _, "basic":
            return {"type": "basic"}
        case ("http", _, "bearer") | ("oauth2", _, _):
            return {"type": "oauth2"}
        case "openIdConnect", _, _:
            url = str(scheme.get("openIdConnectUrl", ""))
            return {"type": "jwt", "issuer": url.removesuffix(_DISCOVERY)}
        case "mutualTLS", _, _:
            return {"type": "mtls"}
        case _:
            return None

"""What one client was sent, and what sets it apart from what it should have, as JSON."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice

from wherry.model.world import World
from xds.operators.changes import changes
from xds.operators.inspect import Standing, short, sources_of
from xds.resource import Resource
from xds.rest.known import Json
from xds.rest.protojson import Unreadable, any_json

MOST_CHANGES = 100
"""Most fields that are listed of one resource."""
REDACTED = "[redacted]"
"""Stands for what is nobody's business, as in Envoy's ``/config_dump``."""

_SECRET = frozenset({"private_key", "password", "pkcs12", "session_ticket_keys", "generic_secret"})
"""Fields of TLS contexts and secrets that hold keys; a file's name is not one."""


def configuration(found: Iterable[tuple[str, Standing]], *, bodies: bool) -> Iterator[Json]:
    """Yield what a client acknowledged and what is out to it, resource by resource.

    Args:
        found: Service of the stream, and how each resource stands on it.
        bodies: Whether to write the resources out.
    """
    for service, each in found:
        row: dict[str, Json] = {
            "service": service,
            "type": short(each.type_url),
            "name": each.name,
            "state": each.state,
            "acknowledged": _version(each.held),
            "sent": _version(each.sent),
            "wanted": _version(each.wanted),
        }
        if bodies and each.held is not None:
            row["resource"] = _body(each.held)
        if bodies and each.sent is not None and each.sent != each.held:
            row["unanswered"] = _body(each.sent)
        yield row


def difference(found: Iterable[tuple[str, Standing]], world: World) -> Iterator[Json]:
    """Yield the resources that a client does not hold as it should, and why.

    Args:
        found: Service of the stream, and how each resource stands on it.
        world: Says where each was written.
    """
    for service, each in found:
        state = each.state
        if state == "held":
            continue
        reason = each.fault.error if state == "refused" and each.fault is not None else None
        resource = each.wanted or each.held
        sources = () if resource is None else sources_of(resource, world, reason or "")
        row: dict[str, Json] = {
            "service": service,
            "type": short(each.type_url),
            "name": each.name,
            "state": state,
            "acknowledged": _version(each.held),
            "wanted": _version(each.wanted),
            "reason": reason,
            "sources": [asdict(source) for source in sources],
        }
        if each.held is not None and each.wanted is not None:
            row |= _fields(each.held, each.wanted)
        yield row


def _fields(held: Resource, wanted: Resource) -> dict[str, Json]:
    found = changes(_body(held), _body(wanted))
    shown: list[Json] = [asdict(change) for change in islice(found, MOST_CHANGES)]
    return {"changes": shown, "omitted": sum(1 for _ in found)}


def _version(resource: Resource | None) -> str | None:
    return None if resource is None else resource.version


def _body(resource: Resource) -> Json:
    try:
        return _open(any_json(resource.type_url, resource.body))
    except Unreadable as error:
        return {"@type": resource.type_url, "unreadable": str(error)}


def _open(value: Json) -> Json:
    """Return a message without the secrets in it."""
    if isinstance(value, dict):
        return {
            name: REDACTED if name in _SECRET and _is_inline(inner) else _open(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_open(inner) for inner in value]
    return value


def _is_inline(value: Json) -> bool:
    return not (isinstance(value, dict) and value.keys() <= {"filename", "watched_directory"})

"""What an Envoy holds, as its admin interface tells.

Envoy serves no client status discovery; its ``/config_dump`` is the same knowledge as JSON.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/admin/v3/config_dump.proto
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wherry.errors import WherryError
from xds.csds.fleet import Config, Held, Refusal
from xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    SCOPED_ROUTE,
    SECRET,
    TypeUrl,
    in_order,
)


class BadDump(WherryError):
    """What an admin interface answered is no configuration dump."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a section of the dump keeps resources of one type.

    Attributes:
        type_url: Their type.
        key: Field of the section that lists them.
        body: Field of an entry that holds the resource; its name is in there.
        name: Field of the resource that is its name.
        held: What being listed there means.
    """

    type_url: TypeUrl
    key: str
    body: str
    name: str = "name"
    held: Held = Held.ACKED


_PLACES: Mapping[str, tuple[_Place, ...]] = {
    "ClustersConfigDump": (
        _Place(CLUSTER, "dynamic_active_clusters", "cluster"),
        _Place(CLUSTER, "dynamic_warming_clusters", "cluster", held=Held.REQUESTED),
    ),
    "EndpointsConfigDump": (
        _Place(ENDPOINT, "dynamic_endpoint_configs", "endpoint_config", "cluster_name"),
    ),
    "RoutesConfigDump": (_Place(ROUTE, "dynamic_route_configs", "route_config"),),
    "SecretsConfigDump": (
        _Place(SECRET, "dynamic_active_secrets", "secret"),
        _Place(SECRET, "dynamic_warming_secrets", "secret", held=Held.REQUESTED),
    ),
    "EcdsConfigDump": (_Place(EXTENSION, "ecds_filters", "ecds_filter"),),
}


def configs_of(dump: object) -> tuple[Config, ...]:
    """Return what came by discovery, from the JSON of ``/config_dump?include_eds``.

    Bodies are not in it. A resource that Envoy has taken but does not use yet, because it waits
    for what that needs, is REQUESTED; one with a version in use and a newer one refused is NACKED
    and its version is the one in use.

    Raises:
        BadDump: It is no configuration dump.
    """
    match dump:
        case {"configs": list(sections)} if all(isinstance(each, dict) for each in sections):
            pass
        case _:
            raise BadDump(f"config dump: {type(dump).__name__}, expected an object with configs")
    try:
        found = [config for section in sections for config in _section(section)]
    except (AttributeError, TypeError, ValueError) as error:
        raise BadDump(f"config dump: {error}, expected Envoy's own form") from None
    places = {type_url: at for at, type_url in enumerate(in_order({c.type_url for c in found}))}
    return tuple(sorted(found, key=lambda c: (places[c.type_url], c.name, c.held)))


def _section(section: Mapping[str, Any]) -> Iterator[Config]:
    kind = str(section.get("@type", "")).rpartition(".")[2]
    for place in _PLACES.get(kind, ()):
        for entry in section.get(place.key, ()):
            name = entry.get("name") or entry.get(place.body, {}).get(place.name, "")
            yield _config(place.type_url, name, entry, entry, place.held)
    if kind == "ListenersConfigDump":
        for name, entry in _listeners(section).items():
            yield from _listener(name, entry)
    if kind == "ScopedRoutesConfigDump":
        for entry in section.get("dynamic_scoped_route_configs", ()):
            for scoped in entry.get("scoped_route_configs", ()):
                yield _config(SCOPED_ROUTE, scoped.get("name", ""), entry, entry, Held.ACKED)


def _listeners(section: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries by name; Envoy lists a refused one once more without its name."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in section.get("dynamic_listeners", ()):
        refused = entry.get("error_state", {}).get("failed_configuration", {})
        if name := entry.get("name"):
            found[name] = entry
        else:
            found.setdefault(refused.get("name", ""), entry)
    return found


def _listener(name: str, entry: Mapping[str, Any]) -> Iterator[Config]:
    states = {"active_state": Held.ACKED, "warming_state": Held.REQUESTED}
    given = [(entry[key], held) for key, held in states.items() if key in entry]
    for state, held in given or [({}, Held.UNKNOWN)]:
        yield _config(LISTENER, name, state, entry, held)


def _config(
    type_url: TypeUrl, name: str, state: Mapping[str, Any], entry: Mapping[str, Any], held: Held
) -> Config:
    refusal = None
    if failure := entry.get("error_state"):
        refusal = Refusal(
            str(failure.get("details", "")),
            str(failure.get("version_info", "")),
            _unix_ns(failure.get("last_update_attempt")),
        )
    return Config(
        type_url=type_url,
        name=str(name),
        version=str(state.get("version_info", "")),
        held=Held.NACKED if refusal else held,
        updated_unix_ns=_unix_ns(state.get("last_updated")),
        refusal=refusal,
    )


def _unix_ns(text: str | None) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1_000 if text else 0

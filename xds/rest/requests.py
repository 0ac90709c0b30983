"""Discovery by single requests in JSON: what a client polls instead of keeping a stream.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/overview/xds_api#rest-json-polling
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from xds.bootstrap import PILOT
from xds.rest.known import Json
from xds.rest.protojson import any_json
from xds.wire import MESSAGES, BadRequest

MAX_NESTING = 100
"""Deepest nesting of a request."""
MOST_KEPT = 32 << 20
"""Characters of JSON that are kept for the next client that asks for the same."""

_OF_ADS = {"ads", "resource_api_version", "initial_fetch_timeout"}


def request_bytes(text: bytes) -> bytes:
    """Return a DiscoveryRequest in JSON as it goes over gRPC; what nobody reads is left out.

    Raises:
        BadRequest: It is none.
    """
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            raise BadRequest(f"request: {type(given).__name__}, expected a JSON object")
        message = json_format.ParseDict(
            given,
            MESSAGES["DiscoveryRequest"](),
            ignore_unknown_fields=True,
            max_recursion_depth=MAX_NESTING,
        )
    except (ValueError, RecursionError, json_format.Error) as error:
        said = str(error).partition("\n")[0][:200]
        raise BadRequest(f"request: {said}, expected a DiscoveryRequest in JSON") from None
    return bytes(message.SerializeToString())


@dataclass(frozen=True, slots=True)
class Answer:
    """A DiscoveryResponse.

    Attributes:
        version: Of what it tells.
        text: All of it as JSON.
    """

    version: str
    text: bytes


class Answers:
    """Turns DiscoveryResponses into JSON; keeps what each resource looks like.

    When more than `MOST_KEPT` characters are kept, those that were not used for longest go. May
    be used from one thread at a time.

    Args:
        refresh_seconds: How often clients are told to ask for what resources refer to.
    """

    def __init__(self, refresh_seconds: float) -> None:
        self._source = rest_source(refresh_seconds)
        self._kept: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self._size = 0

    @property
    def kept(self) -> int:
        """How many characters of JSON are kept."""
        return self._size

    def answer(self, response: bytes) -> Answer:
        """Return a DiscoveryResponse as JSON.

        Raises:
            Unreadable: A resource cannot be written as JSON.
        """
        try:
            message: Any = MESSAGES["DiscoveryResponse"].FromString(response)
        except DecodeError as error:
            raise WherryError(f"response: {error}, expected a DiscoveryResponse") from None
        head = {
            "version_info": message.version_info,
            "type_url": message.type_url,
            "nonce": message.nonce,
        }
        resources = ",".join(
            self._resource(each.type_url, each.value) for each in message.resources
        )
        text = f'{json.dumps(head)[:-1]},"resources":[{resources}]}}'
        return Answer(message.version_info, text.encode())

    def _resource(self, type_url: str, body: bytes) -> str:
        kept = self._kept.get((type_url, body))
        if kept is not None:
            self._kept.move_to_end((type_url, body))
            return kept
        text = json.dumps(_sourced(any_json(type_url, body), self._source), separators=(",", ":"))
        self._kept[type_url, body] = text
        self._size += len(text)
        while self._size > MOST_KEPT:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)
        return text


def rest_source(refresh_seconds: float) -> dict[str, Json]:
    """Return the ConfigSource of a client that polls the Pilot as its cluster `PILOT`."""
    return {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [PILOT],
            "refresh_delay": f"{refresh_seconds:g}s",
        },
    }


def _sourced(value: Json, source: dict[str, Json]) -> Json:
    """Return a message in which what comes by ADS comes by REST: who polls has no ADS."""
    if isinstance(value, dict):
        if value.get("ads") == {} and value.keys() <= _OF_ADS:
            return source
        return {name: _sourced(inner, source) for name, inner in value.items()}
    if isinstance(value, list):
        return [_sourced(inner, source) for inner in value]
    return value

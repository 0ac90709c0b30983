"""What the operations on keys take and answer, and their OpenAPI operation objects.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from pydantic import Field

from gateway.admin.objects import MAYBE_MOMENT, MOMENT, TEXT, Object, body, given, items
from gateway.keys import DEFAULT_APP
from wherry.model.product import Scope
from wherry.model.resource import Duration, Name, Strict

_KEY: Object = {
    "type": "object",
    "required": ["prefix", "consumer", "app", "title", "state", "created"],
    "properties": {
        "prefix": {"type": "string", "pattern": "^[a-z2-7]{8}$"},
        "consumer": TEXT,
        "app": TEXT,
        "title": TEXT,
        "scopes": {"type": ["array", "null"], "items": TEXT},
        "environment": {"type": ["string", "null"]},
        "state": {"enum": ["active", "revoked", "expired"]},
        "created": MOMENT,
        "expires": MAYBE_MOMENT,
        "revoked": MAYBE_MOMENT,
        "lastUsed": MAYBE_MOMENT,
        "key": {"type": "string", "description": "The whole key, shown only when it is made."},
    },
}


class NewKey(Strict):
    """A key to be made.

    Attributes:
        app: Of the consumer.
        scopes: What it is granted; None is everything that the app may have.
        environment: The only one it counts in; None is every one.
        title: Whatever its owner calls it.
        lasts: How long it is accepted; None is without end.
    """

    app: Name = DEFAULT_APP
    scopes: list[Scope] | None = Field(default=None, max_length=256)
    environment: Name | None = None
    title: str = Field(default="", max_length=200)
    lasts: Duration | None = None


class Rotation(Strict):
    """How a key is replaced.

    Attributes:
        old_lasts: How long the old key is still accepted; None is as long as it was.
    """

    old_lasts: Duration | None = None


_MADE = {"201": body(_KEY, "The key, with its text, which is not shown again.")}

LIST: Object = {
    "operationId": "listKeys",
    "summary": "Keys of a consumer, newest first, without what is secret about them",
    "tags": ["keys"],
    "responses": {"200": body(items(_KEY))},
}

CREATE: Object = {
    "operationId": "createKey",
    "summary": "Make a key; its text is shown this once",
    "tags": ["keys"],
    "requestBody": given(NewKey.model_json_schema(by_alias=True)),
    "responses": _MADE,
}

ROTATE: Object = {
    "operationId": "rotateKey",
    "summary": "Make the key that takes the place of this one; both are accepted meanwhile",
    "tags": ["keys"],
    "requestBody": given(Rotation.model_json_schema(by_alias=True)),
    "responses": _MADE,
}

REVOKE: Object = {
    "operationId": "revokeKey",
    "summary": "Stop accepting a key, at once",
    "tags": ["keys"],
    "responses": {"204": {"description": "It is accepted no more."}},
}

"""Changes to requests on the way there and to answers on the way back."""

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.traffic import json
from gateway.traffic.changes import Body, Headers, Query, personal
from gateway.traffic.words import Facts, Text
from wherry.model.traffic import Transform as Model

_OF_THE_OLD_BODY = (
    "Content-Length",
    "Content-MD5",
    "Content-Digest",
    "Repr-Digest",
    "Digest",
    "ETag",
    "Accept-Ranges",
)


@dataclass(frozen=True, slots=True)
class Change:
    """All changes in one direction.

    Attributes:
        fields: Changes to header fields.
        parameters: Changes to the query; None for answers.
        content: Changes to a JSON body; None: the body need not be read.
    """

    fields: Headers
    parameters: Query | None
    content: Body | None

    @property
    def personal(self) -> tuple[Text, ...]:
        """The texts that depend on who calls."""
        texts = [text for _, text in (*self.fields.set, *self.fields.add)]
        texts += [] if self.parameters is None else [text for _, text in self.parameters.new]
        values = () if self.content is None else [value for _, value in self.content.set]
        return tuple(each for value in (*texts, *values) for each in personal(value))

    def headers(self, fields: CIMultiDict[str], facts: Facts) -> None:
        """See `Headers.apply`."""
        self.fields.apply(fields, facts)

    def query(self, query: str, facts: Facts) -> str:
        """See `Query.apply`."""
        return query if self.parameters is None else self.parameters.apply(query, facts)

    def wants(self, headers: Fields) -> bool:
        """Return whether the body of a message with these fields is to be read and changed.

        Only JSON is; an encoded body is left alone, so ask the upstream for ``identity``.
        """
        return self.content is not None and json.is_json(headers)

    def body(self, body: bytes, facts: Facts) -> bytes:
        """See `Body.apply`; call `forget_body` on the fields after it."""
        return body if self.content is None else self.content.apply(body, facts)


@dataclass(frozen=True, slots=True)
class Transformer:
    """A policy, ready to use.

    Attributes:
        request: On the way there.
        response: On the way back.
        about: The texts in both that say something about who calls.
    """

    request: Change
    response: Change
    about: tuple[Text, ...] = ()

    @property
    def personal(self) -> bool:
        """Whether answers are for one consumer only, so that a cache may not share them."""
        return bool(self.about)

    @classmethod
    def of(cls, model: Model, variables: Collection[str] | None = None) -> "Transformer":
        """Prepare ``model``.

        Args:
            model: As written.
            variables: Of the route's path; None for a policy of many routes, where a variable
                that one of them lacks is nothing there.

        Raises:
            WrongPolicy: A variable or a place cannot be read, or a field frames the message.
        """
        there, back = model.request, model.response
        bodies = [
            None if change.body is None else Body.of(change.body, variables, status)
            for change, status in (
                (there, HTTPStatus.BAD_REQUEST),
                (back, HTTPStatus.BAD_GATEWAY),
            )
        ]
        request = Change(
            Headers.of(there.headers, variables), Query.of(there.query, variables), bodies[0]
        )
        response = Change(Headers.of(back.headers, variables), None, bodies[1])
        return cls(request, response, (*request.personal, *response.personal))


def forget_body(fields: CIMultiDict[str]) -> None:
    """Drop the fields that said something about a body that was changed."""
    for name in _OF_THE_OLD_BODY:
        fields.popall(name, None)

"""Which app of which consumer a credential stands for, compiled from the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from gateway.keys import DEFAULT_APP
from wherry.model.consumer import Consumer

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Party:
    """An app of a consumer.

    Attributes:
        consumer: Its name.
        app: Of theirs.
    """

    consumer: str
    app: str = DEFAULT_APP


class Directory:
    """Every app by what stands for it. Where two claim the same, the first by name has it."""

    def __init__(self) -> None:
        self._identities: dict[tuple[str, str], Party] = {}
        self._certificates: dict[str, Party] = {}
        self._scopes: dict[Party, frozenset[str] | None] = {}
        self._blocked: frozenset[str] = NOTHING

    @classmethod
    def of(cls, consumers: Mapping[str, Consumer]) -> Self:
        """Compile ``consumers``, by name."""
        self = cls()
        for name in sorted(consumers):
            self._scopes[Party(name)] = None
            for app in consumers[name].spec.apps:
                party = Party(name, app.name)
                self._scopes[party] = frozenset(app.scopes) if app.scopes else None
                for each in app.identities:
                    self._identities.setdefault((each.issuer, each.subject), party)
                for fingerprint in app.certificates:
                    self._certificates.setdefault(fingerprint, party)
        self._blocked = frozenset(
            name for name, consumer in consumers.items() if consumer.spec.blocked
        )
        return self

    def by_identity(self, issuer: str, subject: str) -> Party | None:
        """Return the app that has the identity, or None."""
        return self._identities.get((issuer, subject))

    def by_certificate(self, fingerprint: str) -> Party | None:
        """Return the app that names the certificate, or None.

        Args:
            fingerprint: SHA-256 of its DER form in lower-case hex.
        """
        return self._certificates.get(fingerprint)

    def granted(self, party: Party, asked: frozenset[str] | None) -> frozenset[str] | None:
        """Return which of the ``asked`` scopes the app may have; None stands for all there are.

        An app that its consumer no longer has may have none.
        """
        known = party in self._scopes or party.app == DEFAULT_APP
        may = self._scopes.get(party) if known else NOTHING
        if may is None or asked is None:
            return asked if may is None else may
        return asked & may

    def blocked(self, consumer: str) -> bool:
        """Return whether every call of the consumer is refused."""
        return consumer in self._blocked

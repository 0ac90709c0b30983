"""What every way to authenticate offers, and what a product's ways come to together."""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, Self

from gateway.authn.directory import Directory, Party
from gateway.call import Caller, Head
from gateway.keys import Key, Prefix
from gateway.problem import Refused
from wherry.errors import WherryError

REALM = "wherry"
"""The protection space in challenges."""

_KEPT_CALLERS = 200_000


class Wrong(WherryError):
    """A credential does not count.

    Attributes:
        why: What its owner may be told, or None.
        error: Code in the challenge, or None.
        always: Whether ``why`` tells nothing about keys, so that everyone may read it.
    """

    def __init__(
        self, why: str | None = None, *, error: str | None = None, always: bool = False
    ) -> None:
        super().__init__(why or "credential refused")
        self.why, self.error, self.always = why, error, always


class BadMethod(WherryError):
    """A way to authenticate cannot be used as it is written."""


class Check(Protocol):
    """One way to authenticate, ready to use.

    Attributes:
        challenge: What ``WWW-Authenticate`` says of it.
        wanted: What a caller must show, as in "This needs ...".
        secret_fields: Header fields that hold the credential, in lower case.
        parameter: The query parameter that may hold it, or None.
    """

    challenge: str
    wanted: str
    secret_fields: tuple[str, ...]
    parameter: str | None

    def shown(self, head: Head) -> str | None:
        """Return the credential that the request carries, right or wrong; None: none of ours."""
        ...

    def quick(self, head: Head, shown: str) -> Caller | None:
        """Return whose credential it is; None: that takes a wait.

        Raises:
            Wrong: It does not count.
            Refused: 503, nobody can tell now.
        """
        ...

    async def slow(self, head: Head, shown: str) -> Caller:
        """Return whose credential it is, for what `quick` cannot say.

        Raises:
            Wrong: It does not count.
            Refused: 503, nobody can tell now.
        """
        ...


class AtOnce:
    """The part of a `Check` that never takes a wait."""

    async def slow(self, head: Head, shown: str) -> Caller:
        """See `Check.slow`."""
        del head, shown
        raise Wrong


@dataclass(frozen=True, slots=True)
class Prepared:
    """The ways of one product or route, in order.

    Attributes:
        checks: The first of which a request carries the credential decides.
        secret_fields: Header fields that are not passed on, in lower case.
        parameters: Query parameters that are not passed on.
        wanted: What a caller must show.
        challenges: For ``WWW-Authenticate``.
    """

    checks: tuple[Check, ...]
    secret_fields: tuple[str, ...]
    parameters: tuple[str, ...]
    wanted: str
    challenges: tuple[str, ...]

    @classmethod
    def of(cls, checks: Sequence[Check]) -> Self:
        """Put ``checks`` together."""
        fields = dict.fromkeys(field for check in checks for field in check.secret_fields)
        names = [check.parameter for check in checks if check.parameter is not None]
        challenges = dict.fromkeys(check.challenge for check in checks if check.challenge)
        return cls(
            checks=tuple(checks),
            secret_fields=tuple(fields),
            parameters=tuple(dict.fromkeys(names)),
            wanted=", or ".join(dict.fromkeys(check.wanted for check in checks)),
            challenges=tuple(challenges),
        )

    def refusal(self, wrong: Wrong | None = None, *, explain: bool = False) -> Refused:
        """Return the 401 for no credential or a ``wrong`` one.

        Source: RFC 9110 section 11.6.1, RFC 6750 section 3
        """
        challenges = self.challenges
        if wrong is not None and wrong.error is not None:
            error = f', error="{wrong.error}"'
            challenges = tuple(
                each + error if each.startswith("Bearer ") else each for each in challenges
            )
        detail = f"This needs {self.wanted}."
        if wrong is not None and wrong.why is not None and (explain or wrong.always):
            detail = f"{detail} {wrong.why}"
        return Refused(
            HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": ", ".join(challenges)}
        )


class Callers:
    """Makes callers, of the apps as they are configured now.

    Attributes:
        explain: Whether owners are told what is wrong with a credential.
    """

    def __init__(self) -> None:
        self.explain = False
        self._directory = Directory()
        self._of_keys: dict[tuple[Prefix, str], tuple[Key, Caller]] = {}

    @property
    def directory(self) -> Directory:
        """Who there is; replaced whole."""
        return self._directory

    @directory.setter
    def directory(self, directory: Directory) -> None:
        self._directory = directory
        self._of_keys.clear()

    def of_key(self, key: Key, method: str) -> Caller:
        """Return the caller that showed ``key`` by ``method``."""
        held = self._of_keys.get((key.prefix, method))
        if held is not None and held[0] is key:
            return held[1]
        if len(self._of_keys) >= _KEPT_CALLERS:
            self._of_keys.clear()
        caller = Caller(
            consumer=key.consumer,
            app=key.app,
            credential=key.prefix,
            method=method,
            scopes=self._directory.granted(Party(key.consumer, key.app), key.scopes),
            environment=key.environment,
        )
        self._of_keys[key.prefix, method] = key, caller
        return caller


def user_and_password(credential: str) -> tuple[str, str] | None:
    """Return what a ``Basic`` credential holds, or None: it is of another form.

    Source: RFC 7617 section 2
    """
    try:
        user, colon, password = b64decode(credential, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if colon else None


def authorization(head: Head, scheme: str) -> str | None:
    """Return the credential after ``scheme`` (lower case) in ``Authorization``, or None.

    The field must be there once, in ASCII; else any credential is wrong, not absent.

    Source: RFC 9110 section 11.6.2
    """
    given = head.headers.getall("Authorization", ())
    if not given:
        return None
    found, _, credential = given[0].partition(" ")
    if found.lower() != scheme:
        return None
    return credential.strip(" ") if len(given) == 1 and credential.isascii() else ""

"""Which function, version or alias a request is about."""

from dataclasses import dataclass

from faas.api.asked import Asked
from faas.functions.registry import Registry, Resolved
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.function import LATEST, Reference


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about, by name: it need not exist.

    Attributes:
        reference: Function and qualifier.
        base: ARN of the function.
    """

    reference: Reference
    base: str

    @property
    def name(self) -> str:
        """The function's name."""
        return self.reference.name

    @property
    def qualifier(self) -> str:
        """A version's number, an alias or ``$LATEST``, which stands for none too."""
        return self.reference.qualifier

    @property
    def qualified(self) -> bool:
        """Whether a qualifier was given, be it ``$LATEST``."""
        return self.reference.qualified

    @property
    def key(self) -> str:
        """What records about it are kept under."""
        return f"{self.name}/{self.qualifier}"

    @property
    def arn(self) -> str:
        """The ARN, with the qualifier when one was given."""
        return self.full_arn if self.qualified else self.base

    @property
    def full_arn(self) -> str:
        """The ARN, always with the qualifier."""
        return f"{self.base}:{self.qualifier}"

    @property
    def is_alias(self) -> bool:
        """Whether the qualifier can only be an alias."""
        return self.qualifier != LATEST and not self.qualifier.isdecimal()


def target(registry: Registry, text: str, qualifier: str | None = None) -> Target:
    """Return what ``text``, a name or an ARN, and a qualifier apart from it mean.

    Raises:
        InvalidParameter: See `faas.place.Place.reference`.
        ResourceNotFound: See there.
        AccessDenied: See there.
    """
    reference = registry.place.reference(text, qualifier)
    return Target(reference, registry.place.arn(reference.name))


def asked_for(registry: Registry, asked: Asked) -> Target:
    """Return what ``FunctionName`` and ``Qualifier`` of a request mean; see `target`."""
    return target(registry, asked["FunctionName"], asked.get("Qualifier"))


async def present(registry: Registry, about: Target) -> Resolved:
    """Return what a target stands for; of an alias, the version that it mainly points at.

    Raises:
        ResourceNotFound: It does not exist.
    """
    return await registry.resolve(about.reference, draw=1.0)


async def existing(registry: Registry, asked: Asked, *, absent: str) -> Target:
    """Return what a request is about, which must exist.

    Raises:
        ResourceNotFound: It does not, in the words ``absent``.
    """
    about = asked_for(registry, asked)
    try:
        await present(registry, about)
    except ResourceNotFound:
        raise ResourceNotFound(absent) from None
    return about


async def whole(registry: Registry, asked: Asked) -> Target:
    """Return the function that a request is about, which must exist and have no qualifier.

    Raises:
        InvalidParameter: The name has a qualifier.
        ResourceNotFound: There is no such function.
    """
    about = asked_for(registry, asked)
    if about.qualifier != LATEST:
        raise InvalidParameter(
            "This operation is permitted on Lambda functions only. Aliases and versions do not "
            "support this operation. Please specify either a function name or an unqualified "
            "function ARN."
        )
    await present(registry, about)
    return about

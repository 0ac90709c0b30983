"""The shape every resource shares, and the strictness that every field gets."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAME_PATTERN = rf"^{LABEL}(\.{LABEL})*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=253)]
"""A DNS-1123 subdomain, as Kubernetes names are."""


def is_name(text: str) -> bool:
    """Return whether ``text`` is a `Name`."""
    return len(text) <= 253 and re.fullmatch(rf"{LABEL}(\.{LABEL})*", text) is not None  # noqa: PLR2004


Port = Annotated[int, Field(ge=1, le=65535)]
"""A TCP port."""

_DURATION = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Return a Gateway API duration (``1m30s``, ``500ms``) in seconds.

    Raises:
        ValueError: The text is no duration.

    Source: https://gateway-api.sigs.k8s.io/geps/gep-2257/
    """
    if not re.fullmatch(rf"({_DURATION.pattern}){{1,4}}", text, re.ASCII):
        raise ValueError(f"duration {text!r}: expected a form like 500ms, 10s or 1m30s")
    return sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION.findall(text))


def _a_duration(text: str) -> str:
    seconds(text)
    return text


Duration = Annotated[str, AfterValidator(_a_duration)]
"""A duration as Gateway API writes it; `seconds` reads it."""


class Strict(BaseModel):
    """A value of which every field is known, typed and frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _every_field_is_known(cls, given: Any, info: Any) -> Any:
        if not isinstance(given, Mapping) or not (info.context or {}).get("from_file"):
            return given
        allowed = sorted(f.alias or n for n, f in cls.model_fields.items())
        for key in given:
            if key not in allowed:
                raise PydanticCustomError(
                    "unknown_field",
                    "unknown field {field}",
                    {"field": str(key), "allowed": allowed},
                )
        return given


class Metadata(Strict):
    """Who a resource is.

    Attributes:
        name: Unique within its kind.
        namespace: ``default``; this version knows no other.
        labels: Read by selectors.
        annotations: Kept, never read.
    """

    name: Name
    namespace: Literal["default"] = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(Strict):
    """One document of a file: ``apiVersion``, ``kind``, ``metadata`` and a ``spec``."""

    metadata: Metadata

    @property
    def name(self) -> str:
        """The resource's name, unique within its kind."""
        return self.metadata.name

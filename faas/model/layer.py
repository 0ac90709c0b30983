"""A version of a layer. Pure."""

from dataclasses import dataclass

PREFIX = "layer/"
"""Records ``layer/NAME/0000000001``; ``layer-count/NAME`` counts the versions ever published."""


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """One version of a layer; it never changes.

    Attributes:
        name: 1 to 140 of ``A-Za-z0-9-_``.
        arn: Of the layer, without the version.
        version: From 1; a number is never given twice.
        digest: SHA-256 of its package, in hex: names its directory.
        size: Bytes in the uploaded package.
        created: As Lambda formats it.
    """

    name: str
    arn: str
    version: int
    digest: str
    size: int
    created: str
    description: str = ""
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    license: str = ""

    @property
    def version_arn(self) -> str:
        """The ARN with the version."""
        return f"{self.arn}:{self.version}"

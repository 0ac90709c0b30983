"""What an image says of itself: descriptors, indexes, manifests and configuration. Pure.

Source: https://github.com/opencontainers/image-spec/blob/v1.1.0/spec.md and, for the older forms,
https://distribution.github.io/distribution/spec/manifest-v2-2/
"""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from wherry.errors import WherryError

MAX_DOCUMENT = 4 << 20
"""Most bytes in a manifest, an index or a configuration."""
MAX_LAYERS = 127
"""Most layers in an image, as Docker has it."""
MAX_BLOB = 10 << 30
"""Most bytes in one layer. Source: Lambda quotas, "Container image code package size"."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFESTS = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class ImageError(WherryError):
    """An image cannot be used: it is damaged, over a limit, hostile, or not for this machine."""


def _empty_when_null(value: Any) -> Any:
    return {} if value is None else value


def _nothing_when_null(value: Any) -> Any:
    return [] if value is None else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_nothing_when_null)]
Named = Annotated[Mapping[str, str], BeforeValidator(_empty_when_null)]


class Document(BaseModel):
    """A JSON document of an image; what is not known is ignored, as the specification asks."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Platform(Document):
    """What an image of an index is for."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(Document):
    """A reference to content: what it is, its digest and its size in bytes."""

    media_type: str = Field(default="", max_length=255)
    digest: Annotated[str, Field(pattern=rf"^{_DIGEST.pattern}$")]
    size: Annotated[int, Field(ge=0, le=MAX_BLOB)]
    platform: Platform | None = None
    annotations: Named = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Tags or names that the index gives it."""
        return tuple(self.annotations[key] for key in _NAMES if key in self.annotations)


class Kind(Document):
    """What tells an index from a manifest."""

    media_type: str = ""
    manifests: Any = None


class Index(Document):
    """A list of images: one for each platform, or one for each tag."""

    media_type: str = ""
    manifests: Annotated[tuple[Descriptor, ...], Field(max_length=1024)]


class Manifest(Document):
    """One image: its configuration and its layers, lowest first."""

    media_type: str = ""
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Field(max_length=MAX_LAYERS)]


class Saved(BaseModel):
    """One image in the ``manifest.json`` of ``docker save``."""

    config: str = Field(alias="Config", max_length=4096)
    tags: Texts = Field(default=(), alias="RepoTags")
    layers: Texts = Field(alias="Layers", max_length=MAX_LAYERS)


class _RunSettings(BaseModel):
    """See https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md."""

    entry_point: Texts = Field(default=(), alias="Entrypoint")
    command: Texts = Field(default=(), alias="Cmd")
    environment: Texts = Field(default=(), alias="Env")
    working_directory: str = Field(default="", alias="WorkingDir")


class _Step(Document):
    created_by: str = Field(default="", alias="created_by")
    empty_layer: bool = Field(default=False, alias="empty_layer")


class _Layers(BaseModel):
    diff_ids: Annotated[tuple[str, ...], Field(max_length=MAX_LAYERS)]


class Config(BaseModel):
    """An image's configuration; its digest names the image and, by the layers', its content."""

    model_config = ConfigDict(frozen=True)

    architecture: str = ""
    os: str = ""
    rootfs: _Layers
    config: Annotated[_RunSettings, BeforeValidator(_empty_when_null)] = _RunSettings()
    history: Annotated[tuple[_Step, ...], BeforeValidator(_nothing_when_null)] = ()

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the layers as plain tars, lowest first."""
        return self.rootfs.diff_ids

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the image sets."""
        pairs = (each.partition("=") for each in self.config.environment)
        return {name: value for name, _, value in pairs}

    def steps(self) -> Sequence[str]:
        """Return the build step that made each layer; empty texts when the image does not say."""
        made = [step.created_by for step in self.history if not step.empty_layer]
        return made if len(made) == len(self.diff_ids) else [""] * len(self.diff_ids)


_Read = TypeVar("_Read", bound=BaseModel)


def read(kind: type[_Read], body: bytes, name: str) -> _Read:
    """Return the document ``body``.

    Args:
        kind: `Index`, `Manifest` or `Config`.
        body: JSON.
        name: What the message calls it.

    Raises:
        ImageError: It is no such document.
    """
    if len(body) > MAX_DOCUMENT:
        raise ImageError(f"{name}: found {len(body)} bytes, expected at most {MAX_DOCUMENT}")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        said = f"{where}: {first['msg']}"
        raise ImageError(f"{name}: {said}, expected a document of the OCI image format") from None


def config_of(body: bytes, name: str) -> Config:
    """Return an image's configuration, found to be for this machine.

    Raises:
        ImageError: It is none, or for another machine.
    """
    config = read(Config, body, f"configuration of image {name}")
    for each in config.diff_ids:
        if not _DIGEST.fullmatch(each):
            raise ImageError(f"image {name}: layer {each[:80]!r}, expected sha256:HEX")
    if (config.os or "linux", config.architecture or machine()) != ("linux", machine()):
        raise ImageError(
            f"image {name}: is for {config.os}/{config.architecture}, expected linux/{machine()}"
        )
    return config


def choice(index: Index, name: str, tag: str = "") -> Descriptor:
    """Return the image of an index that has the ``tag``, if one is asked for, and fits here.

    Raises:
        ImageError: None does, or several do and no tag is asked for.
    """
    found = [each for each in index.manifests if not tag or tagged(each.names, tag)]
    if tag and not found:
        known = sorted({known for each in index.manifests for known in each.names})
        raise ImageError(f"image {name}: no tag {tag}, expected one of {', '.join(known)}")
    fitting = [each for each in found if _fits(each.platform)]
    if not fitting:
        offered = sorted(
            {f"{each.platform.os}/{each.platform.architecture}" for each in found if each.platform}
        )
        raise ImageError(
            f"image {name}: found {', '.join(offered) or 'nothing'}, expected linux/{machine()}"
        )
    if len({each.digest for each in fitting}) > 1 and fitting[0].platform is None:
        known = sorted({known for each in fitting for known in each.names})
        raise ImageError(
            f"image {name}: found {len(fitting)} images, expected one; name one as PATH:TAG, "
            f"of {', '.join(known)}"
        )
    return fitting[0]


def tagged(names: Sequence[str], tag: str) -> bool:
    """Return whether one of ``names`` is ``tag``, or ends with it: ``docker.io/library/app:v1``."""
    return any(name == tag or name.endswith((f":{tag}", f"/{tag}")) for name in names)


def machine() -> str:
    """Return this machine's architecture as images name it: ``amd64`` or ``arm64``."""
    return _MACHINES.get(platform.machine(), platform.machine())


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a digest as this project reads them: ``sha256:HEX``."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(body: bytes) -> str:
    """Return the digest of ``body``."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def checked(body: bytes, digest: str, name: str) -> bytes:
    """Return ``body`` when it has that digest.

    Raises:
        ImageError: It has another.
    """
    if digest_of(body) != digest:
        raise ImageError(f"{name}: found {digest_of(body)}, expected {digest}")
    return body


def _fits(platform: Platform | None) -> bool:
    if platform is None or not platform.architecture:
        return True
    return platform.os == "linux" and platform.architecture == machine()

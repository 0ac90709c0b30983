"""An earlier version of a function put back: its code and its configuration, published anew."""

from dataclasses import dataclass

from faas.client.api import FUNCTIONS, Json, Refused, quoted
from faas.client.deploy import Client, Deployed, setting
from faas.code.build import Progress

_CONFIGURED = (
    *("Description", "Environment", "EphemeralStorage", "Layers", "MemorySize", "SnapStart"),
    *("Timeout", "Handler", "Runtime", "ImageConfig", "DeadLetterConfig", "TracingConfig"),
    "LoggingConfig",
)
_OF_ZIPS = ("Layers", "Handler", "Runtime", "SnapStart")


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        version: The version that was put back.
        code: Whether the code changed.
        settings: Fields that changed: what they were, and what they are.
        deployed: What it came to, with the new version's number.
    """

    version: str
    code: bool
    settings: dict[str, tuple[object, object]]
    deployed: Deployed


def rolled_back(
    client: Client, name: str, version: str | None, *, progress: Progress
) -> RolledBack:
    """Put the code and the configuration of an earlier version back.

    Args:
        client: Of the Lambda API.
        name: The function.
        version: A published version; None: the newest that differs from what the function is.
        progress: Told each step.

    Raises:
        Refused: There is no such version.
        Unreachable: Nothing answers.
    """
    path = f"{FUNCTIONS}/{quoted(name)}"
    latest = client.api.get(path + "/configuration")
    if version is None:
        version = _earlier(client, name, latest)
    found = client.api.get(path, Qualifier=version)
    target = found["Configuration"]
    changed = _differences(latest, target)
    fresh = latest["CodeSha256"] != target["CodeSha256"]
    code: bytes | str
    if target.get("PackageType") == "Image":
        code = found["Code"].get("ResolvedImageUri") or found["Code"]["ImageUri"]
    elif fresh:
        progress(f"fetching the code of version {version}")
        code = client.api.fetch(found["Code"]["Location"])
    else:
        code = b""
    wanted = {key: value for key, (_, value) in changed.items()}
    if fresh:
        deployed = client.put(name, code, wanted, progress)
    else:
        deployed = client.configure(name, wanted, progress)
    return RolledBack(version, fresh, changed, deployed)


def _earlier(client: Client, name: str, latest: Json) -> str:
    for candidate in reversed(list(client.versions(name))):
        other = candidate["CodeSha256"] != latest["CodeSha256"]
        if other or _differences(latest, candidate):
            return str(candidate["Version"])
    raise Refused(
        "Rollback",
        0,
        f"function {name}: no published version differs from what it is, expected an earlier one",
    )


def _differences(latest: Json, target: Json) -> dict[str, tuple[object, object]]:
    """Return what the two have differently: field to what is and what was."""
    image = target.get("PackageType") == "Image"
    return {
        key: (setting(latest, key), setting(target, key))
        for key in _CONFIGURED
        if not (image and key in _OF_ZIPS)
        and (image or key != "ImageConfig")
        and setting(target, key) is not None
        and setting(latest, key) != setting(target, key)
    }

"""``docs/lambda.md``: which operations of Lambda's API are served, from the model itself.

``python -m faas.api.table docs/lambda.md`` writes the table anew; what stands above it is kept.
"""

import asyncio
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from faas.api.model import ServiceModel
from faas.api.services import service
from faas.app import Settings, running
from faas.backends import chosen
from wherry.store.memory import MemoryStore

BEGIN = "<!-- below: python -m faas.api.table docs/lambda.md -->\n"

_REASONS: tuple[tuple[str, str], ...] = (
    ("DurableExecution", "durable executions: the service that replays them is AWS's own"),
    ("CapacityProvider", "capacity providers: there is no EC2 fleet to manage"),
    ("FunctionScalingConfig", "scaling of capacity providers' functions: there are none"),
    ("CodeSigningConfig", "code signing: there is no AWS Signer; none can be made or set"),
)
_NOTES = {
    "DeleteFunctionCodeSigningConfig": "no function has one",
    "GetFunctionCodeSigningConfig": "no function has one",
    "GetRuntimeManagementConfig": "always `Auto`",
    "InvokeAsync": "deprecated by AWS; as `Invoke` with `Event`",
    "ListCodeSigningConfigs": "always empty",
    "PutRuntimeManagementConfig": "`Auto` only",
}


def table(model: ServiceModel, served: Collection[str]) -> str:
    """Return a line for every operation of the model, in its order.

    Args:
        model: Of the service.
        served: Names of the operations that are registered.
    """
    count = sum(name in served for name in model.operations)
    lines = [
        f"{count} of the {len(model.operations)} operations of the model are served; the others "
        "answer 501 `NotImplementedException`.",
        "",
        "| operation | request | served |",
        "|---|---|---|",
    ]
    for name, operation in model.operations.items():
        note = _NOTES.get(name, "")
        said = f"yes{f': {note}' if note else ''}" if name in served else f"no: {_reason(name)}"
        lines.append(f"| {name} | `{operation.method} {operation.uri}` | {said} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str, found: str) -> str:
    """Return a document with the table below `BEGIN` replaced by ``found``.

    Raises:
        ValueError: It does not have that line.
    """
    head, line, _ = text.partition(BEGIN)
    if not line:
        raise ValueError(f"document: no line {BEGIN.strip()!r}, expected one above the table")
    return f"{head}{line}\n{found}"


def _reason(name: str) -> str:
    return next((why for part, why in _REASONS if part in name), "not yet")


async def registered() -> frozenset[str]:
    """Return the names of the operations that a service serves, by starting one for a moment."""
    with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
        path = Path(folder)
        settings = Settings(code_dir=path / "code", run_dir=path / "run")
        async with (
            chosen("process", cache=path / "cache", run=path) as backend,
            running(settings, MemoryStore(), backend) as faas,
        ):
            return frozenset(faas.operations)


def main() -> None:
    """Write the table into the document that the command line names."""
    document = Path(sys.argv[1])
    found = table(service("lambda"), asyncio.run(registered()))
    document.write_text(rewritten(document.read_text(), found))


if __name__ == "__main__":
    main()

"""Small functions to begin with, one for each kind of runtime."""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from faas.functions.served import served
from wherry.errors import StartError

_NAME = re.compile(r"[A-Za-z0-9-_]{1,64}")
_README = Template("""# $name

A function for $runtime.

    wherry fn deploy $folder
    wherry fn invoke $name @$folder/event.json
    wherry fn logs -f $name

$edit Every deploy publishes a version; `wherry fn rollback $name` goes back to the one before.
""")
_EVENT = '{\n  "name": "world"\n}\n'
_PYTHON = '''"""Says hello; the event's "name" says to whom."""


def handler(event, context):
    name = event.get("name", "you")
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!"}
'''
_NODE = """// Says hello; the event's "name" says to whom.

export const handler = async (event) => {
  const name = event.name ?? "you";
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!` };
};
"""
_OWN = """#!/bin/sh
# A runtime of your own: asks for an event, answers with it, and asks again.
# Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
set -eu

api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
headers=$(mktemp)
while true; do
  event=$(curl -sS -D "$headers" "$api/next")
  id=$(grep -i '^lambda-runtime-aws-request-id:' "$headers" | cut -d: -f2 | tr -d '[:space:]')
  echo "got ${#event} characters" >&2
  printf '%s' "$event" | curl -sS -o /dev/null --data-binary @- "$api/$id/response"
done
"""
_STARTS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "python": (
        "app.py",
        {"app.py": _PYTHON, "requirements.txt": "# what it needs, one a line: requests==2.32.3\n"},
        "Edit `app.py`; what `requirements.txt` asks for is installed into a layer.",
    ),
    "nodejs": (
        "index.mjs",
        {"index.mjs": _NODE, "package.json": '{\n  "type": "module",\n  "dependencies": {}\n}\n'},
        "Edit `index.mjs`; what `package.json` asks for is installed.",
    ),
    "provided": (
        "bootstrap",
        {"bootstrap": _OWN},
        "`bootstrap` is any program that speaks the Runtime API; this one needs sh and curl.",
    ),
}


def start(folder: Path, runtime: str) -> list[str]:
    """Write a small function into a new folder, and return the names of its files.

    Args:
        folder: Must not be there yet; its name becomes the function's.
        runtime: ``python...``, ``nodejs...`` or ``provided...``.

    Raises:
        StartError: The folder is there, cannot be written or has no name for a function, or there
            is no such runtime.
    """
    kind = next((kind for kind in _STARTS if runtime.startswith(kind)), None)
    if kind is None or served(runtime) is None:
        raise StartError(
            f"--runtime {runtime!r}: expected python3.11, nodejs22.x or provided.al2023"
        )
    if not _NAME.fullmatch(folder.name):
        raise StartError(
            f"folder {folder.name!r}: its name becomes the function's, "
            "expected 1 to 64 of A-Z a-z 0-9 - _"
        )
    _, files, edit = _STARTS[kind]
    readme = _README.substitute(name=folder.name, folder=folder, runtime=runtime, edit=edit)
    written = {**files, "event.json": _EVENT, "README.md": readme}
    try:
        folder.mkdir(parents=True)
        for name, text in written.items():
            (folder / name).write_text(text)
            if name == "bootstrap":
                (folder / name).chmod(0o755)
    except FileExistsError:
        raise StartError(f"folder {folder}: is there already, expected a new one") from None
    except OSError as error:
        raise StartError(f"folder {folder}: {error.strerror}, expected to write it") from error
    return sorted(written)

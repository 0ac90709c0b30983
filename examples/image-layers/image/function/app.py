"""Greets in the language that the event asks for."""

import json
import subprocess
from pathlib import Path

import greetings

NAMES = json.loads(Path("/opt/names/names.json").read_text())


def handler(event, context):
    """Answer with a greeting; the program that shouts it is in a layer, under /opt/bin."""
    language = event.get("language", "en")
    command = ["shout", greetings.greet(language)]
    shout = subprocess.run(command, capture_output=True, check=True)  # noqa: S603
    return {"said": shout.stdout.decode().strip(), "language": NAMES.get(language, language)}

"""Functions in YAML: what is refused names its place; what is guessed of folders of code."""

from pathlib import Path

import pytest

from faas.code.guess import guess
from faas.code.packed import BuildError
from faas.functions.declared import Declared
from wherry.config import load
from wherry.errors import ConfigError

HEAD = "apiVersion: wherry.dev/v1\nkind: Function\nmetadata: {name: f}\nspec:\n"


def read(tmp_path, *lines):
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "f.yaml").write_text(HEAD + "".join(f"  {line}\n" for line in lines))
    return load(tmp_path / "f.yaml").functions["f"]


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (["code: code"], 4, "handler: FILE.FUNCTION"),
        (["handler: app.handler"], 4, "spec: neither code nor image, expected exactly one"),
        (["code: code", "handler: a.b", "image: x:1"], 4, "spec: both code and image, expected"),
        (["code: code", "handler: a.b", "timeout: 901s"], 7, "901s, expected 1s to 15m"),
        (["code: code", "handler: a.b", "environment: {V: x}"], 7, "spec.environment.V: 'V'"),
        (["code: code", "handler: a.b", "schedule: daily"], 7, "spec.schedule[0]: 'daily'"),
        (["code: code", "handler: a.b", "schedule: 7"], 7, "spec.schedule: 7, expected a list"),
        (["image: x:1", "handler: a.b"], 4, "expected neither"),
        (["code: code", "handler: a.b", "runtime: python2.7"], 7, "python3.11"),
        (["code: code", "handler: a.b", "tmpMib: 100"], 7, "512"),
        (["code: code", "handler: a.b", "layers: [nowhere]"], 7, "a folder or an ARN"),
        (["code: code", "handler: a.b", "url: {auth: ANY}"], 7, "AWS_IAM"),
        (["code: code", "handler: a.b", "delivery: {maxAge: 1s}"], 7, "1m to 6h"),
        (["code: code", "handler: a.b", "delivery: {onFailure: mail}"], 7, "arn:aws"),
        (["code: code", "handler: a.b", "deadLetter: queue"], 7, "arn:aws"),
        (["code: code", "handler: a.b", "reservedConcurrency: -1"], 7, "0"),
        (["code: nowhere", "handler: a.b"], 5, "a folder of code"),
        (["code: code", "handler: a.b", "tmp: 512"], 7, "tmpMib"),
    ],
)
def test_what_a_function_cannot_be_is_refused_with_its_line(tmp_path, lines, line, said):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *lines)
    first = str(caught.value).splitlines()[0]
    assert f"f.yaml:{line}:" in first
    assert said in first


def test_a_declared_function_has_what_its_file_says(tmp_path):
    written = read(
        tmp_path,
        *("code: code", "handler: index.handler", "runtime: nodejs20.x", "timeout: 1m"),
        *("tmpMib: 1024", "layers: [code, 'arn:aws:lambda:us-east-1:000000000000:layer:l:1']"),
        *("reservedConcurrency: 0", "deadLetter: 'arn:aws:sqs:us-east-1:000000000000:q'"),
    )
    declared = Declared.of(written, tmp_path)
    assert declared.layers == (
        *(tmp_path / "code", "arn:aws:lambda:us-east-1:000000000000:layer:l:1"),
    )
    fields = declared.settings()
    assert (fields["runtime"], fields["timeout"], fields["tmp_mib"]) == ("nodejs20.x", 60, 1024)
    assert fields["dead_letter"] == "arn:aws:sqs:us-east-1:000000000000:q"
    assert declared.reserved == 0


def test_the_path_of_an_image_begins_at_the_file(tmp_path):
    found = Declared.of(read(tmp_path, "image: ./app.tar"), Path("/somewhere"))
    assert found.image == "/somewhere/app.tar"
    found = Declared.of(read(tmp_path, "image: ghcr.io/team/app:v1"), Path("/somewhere"))
    assert found.image == "ghcr.io/team/app:v1"
    assert (found.settings()["runtime"], found.settings()["handler"]) == ("", "")


@pytest.mark.parametrize(
    ("files", "runtime", "handler"),
    [
        ({"app.py": "def handler(e, c): ..."}, "python3.11", "app.handler"),
        ({"lambda_function.py": "def lambda_handler(e, c): ..."}, "python3.11", "lambda_function"),
        ({"a.py": "x = 1", "b.py": "async def handler(e, c): ..."}, "python3.11", "b.handler"),
        ({"index.mjs": "export const handler = 1"}, "nodejs22.x", "index.handler"),
        ({"index.js": "exports.handler = 1", "package.json": "{}"}, "nodejs22.x", "index.handler"),
        ({"app.js": "module.exports = { handler }"}, "nodejs22.x", "app.handler"),
        ({"bootstrap": "#!/bin/sh", "app.py": ""}, "provided.al2023", "bootstrap"),
    ],
)
def test_a_folder_shows_its_runtime_and_its_handler(tmp_path, files, runtime, handler):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = guess(tmp_path)
    assert found.runtime == runtime
    assert found.handler.startswith(handler)


def test_a_folder_without_a_handler_says_how_to_name_one(tmp_path):
    (tmp_path / "app.py").write_text("x = 1\n")
    with pytest.raises(BuildError, match=r"--handler FILE\.FUNCTION"):
        guess(tmp_path)
    assert guess(tmp_path, handler="app.x").handler == "app.x"
    with pytest.raises(BuildError, match="not found"):
        guess(tmp_path / "nowhere")

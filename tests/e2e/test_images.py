"""Images that umoci built and skopeo carried, taken from every kind of place."""

import gzip
import json
import os
import platform
import tarfile
from dataclasses import replace

import pytest
from support.images import Layout, copied, registry

from faas.model.function import Function, ImageConfig
from faas.oci.documents import ImageError
from faas.oci.images import container, taken

pytestmark = pytest.mark.e2e


@pytest.fixture
def layout(tmp_path):
    """An image of four layers, with whiteouts, links and a folder that became opaque."""
    made = Layout(tmp_path / "layout")
    made.layer(
        {"etc/os-release": "ID=test\n", "usr/bin/tool": "#!/bin/sh\n", "opt/old": "old"},
        programs=("usr/bin/tool",),
        links={"bin": "usr/bin", "opt/abs": "/etc/os-release", "opt/out": "../../../etc/passwd"},
        said="base",
    )
    made.layer({"var/task/app.py": "def handler(e, c): return e\n", "usr/bin/other": "x"})
    made.layer({"opt/old": None})
    made.layer({"var/task/data.txt": "data", "empty": ""})
    made.config(
        *("--config.cmd", "app.handler", "--config.entrypoint", "/bin/tool"),
        *("--config.env", "STAGE=test", "--config.workingdir", "/var/task"),
        *("--architecture", {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]),
    )
    return made


def files(root):
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


LAID_OUT = [
    *("bin", "empty", "etc/os-release", "opt/abs", "opt/out", "usr/bin/other", "usr/bin/tool"),
    *("var/task/app.py", "var/task/data.txt"),
]


async def test_an_image_is_the_same_wherever_it_is_taken_from(layout, tmp_path):
    said = []
    whole = f"oci:{layout.name}"
    places = [
        str(layout.path),
        layout.name,
        copied(whole, f"oci-archive:{tmp_path}/image.oci.tar:v1"),
        copied(whole, f"docker-archive:{tmp_path}/image.docker.tar:team/app:v1"),
        copied(
            whole, f"oci:{tmp_path}/zstd:v1", "--dest-compress", "--dest-compress-format", "zstd"
        ),
        f"{tmp_path}/image.oci.tar",
        f"{tmp_path}/image.docker.tar",
    ]
    packed = gzip.compress((tmp_path / "image.docker.tar").read_bytes())
    (tmp_path / "image.docker.tar.gz").write_bytes(packed)
    places.append(f"{tmp_path}/image.docker.tar.gz")
    found = {}
    for number, place in enumerate(places):
        found[place] = await taken(place, tmp_path / f"code-{number}", said.append)
    async with registry(tmp_path / "registry") as address:
        copied(whole, f"docker://{address}/team/app:v1")
        place = f"{address}/team/app:v1"
        found[place] = await taken(place, tmp_path / "code-registry", said.append)
        place = f"{address}/team/app@{found[place].manifest}"
        found[place] = await taken(place, tmp_path / "code-digest", said.append)
    for place, package in found.items():
        assert files(package.root) == LAID_OUT, place
    assert len({package.config.diff_ids for package in found.values()}) == 1
    assert any(line.startswith("fetching layer 1 of 4") for line in said)
    root = found[str(layout.path)].root
    assert (root / "bin/tool").read_text() == "#!/bin/sh\n"
    assert os.access(root / "usr/bin/tool", os.X_OK)
    assert (root / "opt/abs").read_text() == "ID=test\n"
    assert (root / "opt/out").resolve() == (root / "etc/passwd").resolve()
    assert root.stat().st_mode & 0o777 == 0o755
    with tarfile.open(tmp_path / "image.docker.tar") as archive:
        assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"]


async def test_a_function_runs_what_its_image_says_unless_it_says_otherwise(layout, tmp_path):
    package = await taken(str(layout.path), tmp_path / "code", lambda _: None)
    function = Function(
        name="f",
        arn="arn:aws:lambda:us-east-1:000000000000:function:f",
        runtime="",
        handler="",
        digest=package.digest,
        code_size=package.size,
        modified="",
        revision="",
        package_type="Image",
        image_uri=str(layout.path),
    )
    made = container(tmp_path / "code", function)
    assert made.root == package.root
    assert made.command == ("/bin/tool", "app.handler")
    assert made.environment["STAGE"] == "test"
    assert made.working_directory == "/var/task"
    own = ImageConfig(("/x", "-v"), ("other.handler",), "/work")
    changed = container(tmp_path / "code", replace(function, image_config=own))
    assert (changed.command, changed.working_directory) == (("/x", "-v", "other.handler"), "/work")


async def test_an_image_that_is_there_is_not_fetched_again(layout, tmp_path):
    said = []
    async with registry(tmp_path / "registry") as address:
        copied(f"oci:{layout.name}", f"docker://{address}/app:v1")
        first = await taken(f"{address}/app:v1", tmp_path / "code", said.append)
        before = len(said)
        second = await taken(f"docker://{address}/app:v1", tmp_path / "code", said.append)
        assert (first, before) == (second, len(said))
        for text, expected in (
            (f"{address}/app:v2", "there is no such image"),
            (f"{address}/app@sha256:{'0' * 64}", "there is no such image"),
        ):
            with pytest.raises(ImageError, match=expected):
                await taken(text, tmp_path / "code", said.append)
    with pytest.raises(ImageError, match="expected it to answer"):
        await taken(f"{address}/app:v1", tmp_path / "code", said.append)
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.digest]


async def test_a_blob_that_was_changed_is_refused(layout, tmp_path):
    manifest = json.loads((layout.path / "index.json").read_text())["manifests"][0]["digest"]
    blob = layout.path / "blobs/sha256" / manifest.removeprefix("sha256:")
    body = json.loads(blob.read_text())
    layer = layout.path / "blobs/sha256" / body["layers"][1]["digest"].removeprefix("sha256:")
    whole = layer.read_bytes()
    layer.chmod(0o644)
    layer.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ImageError, match=r"layer sha256:.*expected"):
        await taken(str(layout.path), tmp_path / "code", lambda _: None)
    layer.write_bytes(whole + b"\0")
    with pytest.raises(ImageError, match=f"expected {len(whole)}"):
        await taken(str(layout.path), tmp_path / "code", lambda _: None)
    blob.chmod(0o644)
    blob.write_text(json.dumps(body) + " ")
    with pytest.raises(ImageError, match=f"expected {manifest}"):
        await taken(str(layout.path), tmp_path / "code", lambda _: None)
    assert list((tmp_path / "code").iterdir()) == []


async def test_a_file_may_have_to_hold_the_image_of_a_digest(layout, tmp_path):
    first = await taken(str(layout.path), tmp_path / "code", lambda _: None)
    archive = copied(f"oci:{layout.name}", f"docker-archive:{tmp_path}/saved.tar:app:v1")
    saved = await taken(archive, tmp_path / "code", lambda _: None)
    for text in (
        f"{layout.path}@{first.manifest}",
        f"oci:{layout.path}@sha256:{first.digest}",
        f"docker-archive:{tmp_path}/saved.tar@sha256:{saved.digest}",
    ):
        await taken(text, tmp_path / "code", lambda _: None)
    layout.layer({"more": "x"})
    with pytest.raises(ImageError, match="holds another image by now"):
        await taken(f"{layout.path}@{first.manifest}", tmp_path / "code", lambda _: None)

"""Blobs verified and expanded within limits; references, challenges and logins read."""

import base64
import gzip
import hashlib
import io
import json
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.oci.challenge import challenge, login
from faas.oci.documents import Config, ImageError, Index, choice, config_of, machine, read
from faas.oci.reference import InRegistry, in_file, in_registry
from faas.oci.streams import Plain, Verified
from faas.oci.tar import entries

zstd = import_module("backports.zstd")


def everything(read, piece=1000):
    return b"".join(iter(lambda: read(piece), b""))


@given(st.binary(max_size=5000), st.integers(1, 3000), st.sampled_from(["gzip", "zstd", "none"]))
def test_a_layer_is_expanded_whatever_it_is_compressed_with(body, piece, kind):
    packed = {"gzip": gzip.compress, "zstd": zstd.compress, "none": bytes}[kind](body)
    expected = body if kind != "none" or body[:2] != b"\x1f\x8b" else None
    if expected is None:
        return
    assert everything(Plain(io.BytesIO(packed).read, "x").read, piece) == expected


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_members_behind_each_other_are_one_stream(pack):
    packed = pack(b"one") + pack(b"two" * 5000)
    assert everything(Plain(io.BytesIO(packed).read, "x").read) == b"one" + b"two" * 5000


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_compressed_stream_that_ends_early_is_refused(pack):
    packed = pack(bytes(range(256)) * 100)
    for end in (5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ImageError, match="whole"):
            everything(Plain(io.BytesIO(packed[:end]).read, "x").read)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_bomb_is_refused(pack):
    with pytest.raises(ImageError, match="expected at most 200 times as many"):
        everything(Plain(io.BytesIO(pack(bytes(80 << 20))).read, "x").read, 1 << 20)


def test_other_compressions_are_named():
    with pytest.raises(ImageError, match="found bzip2, expected gzip, zstd or a plain tar"):
        everything(Plain(io.BytesIO(b"BZh91AY").read, "x").read)


def test_a_stream_must_have_its_digest_and_its_size():
    body = b"body"
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"

    def verified(body, size):
        return everything(Verified(io.BytesIO(body).read, digest=digest, size=size, name="x").read)

    assert verified(body, 4) == body
    with pytest.raises(ImageError, match="found sha256:"):
        verified(b"BODY", 4)
    with pytest.raises(ImageError, match="found 4 bytes, expected 5"):
        verified(body, 5)
    with pytest.raises(ImageError, match="expected 3"):
        verified(body, 3)


def header(**fields):
    """Return a tar header with fields put over it, and its checksum right."""
    block = bytearray(512)
    block[0:1], block[100:107], block[257:263] = b"x", b"0000644", b"ustar\0"
    block[156:157] = fields.get("kind", b"0")
    block[124:136] = fields.get("size", b"00000000000\0")
    block[148:156] = b"        "
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (header(size=b"00077777777\0"), "ends .* early"),
        (header(size=b"zzz".ljust(12, b"\0")), "octal"),
        (header(size=b"\x80" + b"\xff" * 11), "out of range"),
        (header(kind=b"S"), "kind"),
        (header(kind=b"x", size=b"77777777777\0"), "header of"),
        (header(kind=b"x", size=b"00000000004\0") + b"9 a=".ljust(512, b"\0"), "pax"),
        (b"not a tar at all".ljust(512, b"x"), "checksum"),
        (header()[:100], "512"),
    ],
)
def test_a_damaged_tar_says_what_is_wrong(body, said):
    with pytest.raises(ImageError, match=said):
        list(entries(io.BytesIO(body).read))


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("python:3.11", "registry-1.docker.io", "library/python", "3.11"),
        ("python", "registry-1.docker.io", "library/python", "latest"),
        ("docker.io/team/app:v1", "registry-1.docker.io", "team/app", "v1"),
        ("ghcr.io/team/app", "ghcr.io", "team/app", "latest"),
        ("docker://localhost:5000/app:v1", "localhost:5000", "app", "v1"),
        ("localhost/app", "localhost", "app", "latest"),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest"),
    ],
)
def test_references_are_read_as_docker_reads_them(text, host, repository, tag):
    assert in_registry(text) == InRegistry(host, repository, tag)


def test_only_registries_of_this_machine_are_spoken_to_in_the_clear():
    assert in_registry("127.0.0.1:5000/a").url == "http://127.0.0.1:5000/v2/a"
    assert in_registry("[::1]:5000/a").url == "http://[::1]:5000/v2/a"
    for host in ("example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1:80"):
        assert in_registry(f"{host}/a").url == f"https://{host}/v2/a"


@pytest.mark.parametrize(
    "text",
    [
        *("", "UPPER/case", "a/../b", "host.example:99999/a", "a:b:c", "a@sha256:1", "a b"),
        *("http://host/a", "user@host.example/a", "host.example/a?x=1", "/etc/passwd"),
    ],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ImageError, match="expected a path"):
        in_registry(text)


def test_files_are_named_with_or_without_a_tag():
    assert in_file("oci:/a/b:v1") == in_file("oci:/a/b:v1")
    found = in_file("docker-archive:x.tar:team/app:v1")
    assert (found.path, found.tag) == ("x.tar", "team/app:v1")
    assert in_file("python:3.11") is None


def test_challenges_are_read():
    found = challenge('Bearer realm="https://a/token",service="s",scope="repository:a:pull,push"')
    assert found.scheme == "bearer"
    assert found.parameters["scope"] == "repository:a:pull,push"
    assert challenge("basic realm=x").scheme == "basic"
    assert challenge("Negotiate") is None


def test_logins_are_found_for_their_host_alone():
    secret = base64.b64encode(b"me:pass:word").decode()
    config = json.dumps({"auths": {"https://host.example/": {"auth": secret}}}).encode()
    found = login(config, "host.example")
    assert (found.user, found.password) == ("me", "pass:word")
    assert login(config, "other.example") is None
    assert login(b"{}", "host.example") is None
    hub = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": secret}}}).encode()
    assert login(hub, "registry-1.docker.io") is not None
    for damaged in (b"[", b"[]", b'{"auths": {"host.example": {"auth": "%"}}}'):
        with pytest.raises(ImageError, match="damaged"):
            login(damaged, "host.example")


def test_the_image_for_this_machine_is_chosen_from_an_index():
    def entry(architecture, digit, os="linux"):
        return {
            "digest": f"sha256:{digit * 64}",
            "size": 1,
            "platform": {"os": os, "architecture": architecture},
        }

    body = {"manifests": [entry("s390x", "1"), entry(machine(), "2"), entry("unknown", "3", "?")]}
    found = choice(read(Index, json.dumps(body).encode(), "x"), "x")
    assert found.digest == f"sha256:{'2' * 64}"
    body = {"manifests": [entry("s390x", "1")]}
    with pytest.raises(ImageError, match="found linux/s390x, expected linux/"):
        choice(read(Index, json.dumps(body).encode(), "x"), "x")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "expected a document"),
        (b"[" * 100_000, "expected a document"),
        (b"{}", "rootfs"),
        (b'{"rootfs": {"diff_ids": ["md5:1"]}}', "expected sha256:HEX"),
        (b'{"architecture": "s390x", "os": "linux", "rootfs": {"diff_ids": []}}', "s390x"),
        (b" " * (5 << 20), "expected at most"),
        (json.dumps({"rootfs": {"diff_ids": ["x"] * 200}}).encode(), "at most 127"),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(body, said):
    with pytest.raises(ImageError, match=said):
        config_of(body, "x")


def test_what_images_leave_empty_is_empty():
    body = {"rootfs": {"diff_ids": []}, "config": {"Cmd": None, "Env": None}, "history": None}
    config = Config.model_validate(body)
    assert (config.config.command, dict(config.environment), config.steps()) == ((), {}, [])

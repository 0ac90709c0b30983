"""Code packages: what is unpacked, what is refused and why."""

import contextlib
import hashlib
import io
import os
import struct
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.code import package
from faas.code.build import BuildError, built
from faas.code.package import checksum, size_of, sweep, unpacked, zip_of
from faas.lambda_errors import InvalidParameter


def zipped(files, *, mode=0o644, kind=0o100000):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (kind | mode) << 16
            archive.writestr(entry, body)
    return sink.getvalue()


def refusal(body, code_dir):
    with pytest.raises(InvalidParameter) as refused:
        unpacked(body, code_dir)
    assert [path for path in code_dir.rglob("*") if path.is_file()] == []
    return str(refused.value)


def test_a_package_is_unpacked_once_and_named_by_its_content(tmp_path):
    body = zipped({"app.py": "x = 1", "lib/deep/mod.py": "y = 2"})
    first = unpacked(body, tmp_path)
    assert first.digest == hashlib.sha256(body).hexdigest()
    assert (first.root / "lib/deep/mod.py").read_text() == "y = 2"
    stamp = first.root.stat().st_ino
    assert unpacked(body, tmp_path) == first
    assert first.root.stat().st_ino == stamp
    assert zip_of(tmp_path, first.digest).read_bytes() == body
    assert [path.name for path in tmp_path.iterdir()] == [first.digest]


def test_the_checksum_is_base64_as_lambda_spells_it():
    assert checksum("00" * 32) == "A" * 43 + "="


def test_executable_files_stay_executable(tmp_path):
    root = unpacked(zipped({"bin/tool": "#!/bin/sh"}, mode=0o755), tmp_path).root
    assert (root / "bin/tool").stat().st_mode & 0o777 == 0o755
    root = unpacked(zipped({"app.py": ""}), tmp_path).root
    assert (root / "app.py").stat().st_mode & 0o777 == 0o644


def test_functions_can_enter_every_folder_whatever_the_umask_says(tmp_path):
    before = os.umask(0o077)
    try:
        root = unpacked(zipped({"app.py": "", "lib/deep/mod.py": ""}), tmp_path).root
    finally:
        os.umask(before)
    for folder in (root.parent, root, root / "lib", root / "lib/deep"):
        assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("body", [b"", b"no zip at all", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_zip_is_refused_in_lambdas_words(tmp_path, body):
    assert refusal(body, tmp_path).startswith("Could not unzip uploaded file.")


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_damaged_zip_is_refused_or_unpacked_but_never_an_accident(
    tmp_path_factory, noise, position
):
    body = bytearray(zipped({"app.py": "x = 1\n" * 20, "b.py": "y"}))
    at = position % len(body)
    body[at : at + len(noise)] = noise
    with contextlib.suppress(InvalidParameter):
        unpacked(bytes(body), tmp_path_factory.mktemp("code"))


def test_an_empty_zip_is_refused(tmp_path):
    assert "non-empty zip" in refusal(zipped({}), tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil.py", "a/../../evil.py", "/etc/evil", "a\\..\\evil.py", "x" * 2000]
)
def test_a_path_that_leaves_the_package_is_refused(tmp_path, name):
    assert "leaves the package" in refusal(zipped({name: "x"}), tmp_path / "code")
    assert not (tmp_path / "evil.py").exists()


def with_links(files, links):
    sink = io.BytesIO(zipped(files))
    with zipfile.ZipFile(sink, "a") as archive:
        for name, target in links:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120000 | 0o777) << 16
            archive.writestr(entry, target)
    return sink.getvalue()


def test_a_link_inside_the_package_stays_a_link(tmp_path):
    links = [("lib/one.so", "../so/one.so.1"), ("lib/two.so", "one.so"), ("now", "lib")]
    root = unpacked(with_links({"so/one.so.1": "x"}, links), tmp_path).root
    assert (root / "lib/two.so").is_symlink()
    assert (root / "now/two.so").read_text() == "x"
    assert (root / "now").readlink().as_posix() == "lib"


def test_links_that_lead_nowhere_or_in_circles_harm_nobody(tmp_path):
    links = [("a", "b"), ("b", "a"), ("c", "not/there"), ("d", ".")]
    root = unpacked(with_links({"app.py": ""}, links), tmp_path).root
    assert sorted(path.name for path in root.iterdir()) == ["a", "app.py", "b", "c", "d"]


@pytest.mark.parametrize(
    "links",
    [
        [("link", "/etc/passwd")],
        [("link", "../outside")],
        [("lib/link", "../../outside")],
        [("up", "lib/deep"), ("link", "up/../../../outside")],
        [("a", "lib"), ("b", "a/.."), ("c", "b/..")],
        [("link", "lib/back"), ("lib/back", "../..")],
    ],
)
def test_a_link_that_leaves_the_package_is_refused(tmp_path, links):
    body = with_links({"app.py": "", "lib/deep/x.py": ""}, links)
    assert "found a link that leaves the package" in refusal(body, tmp_path)


def test_nothing_is_written_through_a_link(tmp_path):
    sink = io.BytesIO(with_links({"lib/a.py": ""}, [("now", "lib")]))
    with zipfile.ZipFile(sink, "a") as archive:
        archive.writestr("now/evil.py", "")
    assert "behind a link" in refusal(sink.getvalue(), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_path_as_link_and_file_is_refused(tmp_path):
    sink = io.BytesIO(with_links({"lib/a.py": ""}, [("now", "lib")]))
    with zipfile.ZipFile(sink, "a") as archive:
        archive.writestr("now", "")
    refusal(sink.getvalue(), tmp_path)


@pytest.mark.parametrize("target", ["", "x" * 2000, "a\0b"])
def test_a_link_to_no_path_is_refused(tmp_path, target):
    assert "a link to no path" in refusal(with_links({"a": ""}, [("l", target)]), tmp_path)


@pytest.mark.parametrize("kind", [0o010000, 0o020000, 0o060000, 0o140000])
def test_a_special_file_is_refused(tmp_path, kind):
    assert "found a special file" in refusal(zipped({"x": ""}, kind=kind), tmp_path)


def test_equal_files_of_two_packages_are_one_on_the_disk(tmp_path):
    big, small = os.urandom(10_000), b"x"
    one = unpacked(zipped({"app.py": "1", "dep.so": big, "s": small}), tmp_path).root
    two = unpacked(zipped({"app.py": "2", "lib/dep.so": big, "s": small}), tmp_path).root
    assert (one / "dep.so").stat().st_ino == (two / "lib/dep.so").stat().st_ino
    assert (one / "s").stat().st_ino != (two / "s").stat().st_ino


def test_an_executable_shares_nothing_with_a_file_that_is_none(tmp_path):
    body = os.urandom(10_000)
    plain = unpacked(zipped({"dep": body}), tmp_path).root / "dep"
    executable = unpacked(zipped({"dep": body}, mode=0o755), tmp_path).root / "dep"
    assert plain.stat().st_mode & 0o777 == 0o644
    assert executable.stat().st_mode & 0o777 == 0o755


def test_a_shared_file_goes_with_its_last_package(tmp_path):
    big = os.urandom(10_000)
    one = unpacked(zipped({"app.py": "1", "dep.so": big}), tmp_path)
    two = unpacked(zipped({"app.py": "2", "dep.so": big}), tmp_path)
    assert sweep(tmp_path, [two.digest]) == [one.digest]
    assert (two.root / "dep.so").read_bytes() == big
    sweep(tmp_path, [])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_size_of_a_package_counts_every_file(tmp_path):
    made = unpacked(zipped({"a": "x" * 10, "lib/b": "y" * 5}), tmp_path)
    assert size_of(tmp_path, made.digest) == 15


def test_one_path_as_file_and_folder_is_refused(tmp_path):
    assert "file and as folder" in refusal(zipped({"a": "x", "a/b": "y"}), tmp_path)


def test_a_bomb_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "MAX_UNZIPPED", 1000)
    said = refusal(zipped({"zeros": b"\0" * 1001}), tmp_path)
    assert said == "Unzipped size must be smaller than 1000 bytes: found 1001"


def test_a_bomb_that_declares_less_than_it_holds_is_refused(tmp_path):
    honest = zipped({"zeros": b"\0" * 100_000})
    lie = honest.replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    assert lie != honest
    assert refusal(lie, tmp_path).startswith("Could not unzip uploaded file.")


def test_too_many_entries_and_too_large_an_upload_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "MAX_FILES", 2)
    body = zipped({"a": "", "b": "", "c": ""})
    assert "found 3 entries, expected at most 2" in refusal(body, tmp_path)
    monkeypatch.setattr(package, "MAX_ZIPPED", 10)
    assert "Zipped size must be smaller than 10 bytes" in refusal(body, tmp_path)


def test_an_encrypted_entry_is_refused(tmp_path):
    body = bytearray(zipped({"app.py": "x"}))
    at = body.index(b"PK\x01\x02")
    body[at + 8] |= 1
    assert "encrypted" in refusal(bytes(body), tmp_path)


def test_a_wrong_checksum_is_refused(tmp_path):
    body = zipped({"app.py": "hello"})
    crc = struct.pack("<L", zlib.crc32(b"hello"))
    assert "Bad CRC" in refusal(body.replace(crc, b"\1\2\3\4"), tmp_path)


def test_packages_that_nothing_names_are_swept(tmp_path):
    kept = unpacked(zipped({"a": "1"}), tmp_path)
    gone = unpacked(zipped({"a": "2"}), tmp_path)
    assert sweep(tmp_path, [kept.digest]) == [gone.digest]
    assert kept.root.is_dir()
    assert not gone.root.exists()


def test_a_directory_is_built_to_the_same_bytes_each_time(tmp_path):
    source = tmp_path / "source"
    (source / "__pycache__").mkdir(parents=True)
    (source / "__pycache__/app.pyc").write_bytes(b"x")
    (source / "app.py").write_text("x = 1")
    said = []
    first = built(source, tmp_path / "cache", said.append)
    (source / "app.py").touch()
    assert built(source, tmp_path / "cache", said.append) == first
    assert zipfile.ZipFile(io.BytesIO(first)).namelist() == ["app.py"]
    (source / "app.py").write_text("x = 2")
    assert built(source, tmp_path / "cache", said.append) != first
    assert said == []


def test_comments_are_no_requirements_and_a_missing_directory_is_an_error(tmp_path):
    (tmp_path / "requirements.txt").write_text("# nothing\n\n")
    built(tmp_path, tmp_path.parent / "cache", lambda _: None)
    with pytest.raises(BuildError, match="not found, expected a directory"):
        built(tmp_path / "no", tmp_path, lambda _: None)


def test_a_link_out_of_the_directory_is_not_packed(tmp_path):
    (tmp_path / "app.py").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="not a plain file"):
        built(tmp_path, tmp_path.parent / "cache", lambda _: None)

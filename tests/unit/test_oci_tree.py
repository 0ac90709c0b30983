"""Layers merged, whiteouts honoured, and nothing ever outside, whatever an archive says."""

import io
import os
import tarfile
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faas.oci.documents import Config, ImageError, digest_of
from faas.oci.image import Blob, Image, merged
from faas.oci.lay import laid_out
from faas.oci.streams import MAX_IMAGE
from faas.oci.tar import Entry, Kind, entries
from faas.oci.tree import File, Folder, Link, Merged


def tar(*entries):
    """Write a tar: ``(name, content or None for a folder)``, or a ready-made `TarInfo`."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def image(*layers):
    digests = tuple(map(digest_of, layers))
    config = Config.model_validate({"rootfs": {"diff_ids": digests}})
    blobs = tuple(
        Blob("", digest, len(body), "", lambda body=body: io.BytesIO(body))
        for digest, body in zip(digests, layers, strict=True)
    )
    return Image("test", "", config, b"{}", "0" * 64, blobs)


def paths(tree):
    return {"/".join(parts): node for parts, node in tree.walk() if not isinstance(node, Folder)}


def names(*layers):
    return sorted(paths(merged(image(*layers))))


def test_a_whiteout_removes_what_lower_layers_have():
    assert names(tar(("a/b", b"1"), ("a/c", b"2")), tar(("a/.wh.b", b""))) == ["a/c"]
    assert names(tar(("a/b/c", b"1"), ("d", b"2")), tar((".wh.a", b""))) == ["d"]
    assert names(tar(("a", b"1")), tar((".wh.nothing", b""))) == ["a"]
    assert names(tar(("a", b"1")), tar(("x/y/.wh.nothing", b""))) == ["a"]


def test_a_whiteout_spares_its_own_layer_in_either_order():
    lower = tar(("a/old", b"1"), ("f", b"1"))
    for upper in (
        tar((".wh.a", b""), ("a/new", b"2"), (".wh.f", b""), ("f", b"2")),
        tar(("a/new", b"2"), (".wh.a", b""), ("f", b"2"), (".wh.f", b"")),
    ):
        assert names(lower, upper) == ["a/new", "f"]


def test_an_opaque_folder_hides_all_of_lower_layers_and_keeps_its_own():
    lower = tar(("a/one", b"1"), ("a/b/two", b"2"), ("c", b"3"))
    for upper in (
        tar(("a/", None), ("a/.wh..wh..opq", b""), ("a/new", b"4")),
        tar(("a/new", b"4"), ("a/.wh..wh..opq", b"")),
    ):
        assert names(lower, upper) == ["a/new", "c"]


def test_notes_of_aufs_and_whiteouts_of_nothing_are_no_files():
    upper = tar((".wh..wh.plnk/x", b""), (".wh..wh.aufs", b""), (".wh.", b""), (".wh..", b""))
    assert names(tar(("a", b"1")), upper) == [".wh..wh.plnk/x", "a"]


def test_what_replaces_a_folder_removes_what_was_in_it():
    assert names(tar(("a/b", b"1")), tar(("a", b"2"))) == ["a"]
    assert names(tar(("a", b"1")), tar(("a/", None), ("a/b", b"2"))) == ["a/b"]
    assert names(tar(("a/b", b"1")), tar(link("a", "c"))) == ["a"]
    assert names(tar(("a/b", b"1")), tar(("a/", None))) == ["a/b"]


def test_entries_follow_links_of_lower_layers_inside_the_image():
    lower = tar(("usr/lib/", None), link("lib", "usr/lib"), link("abs", "/usr/lib"))
    assert names(lower, tar(("lib/x", b"1"))) == ["abs", "lib", "usr/lib/x"]
    assert names(lower, tar(("abs/x", b"1"))) == ["abs", "lib", "usr/lib/x"]
    assert names(lower, tar(("usr/lib/x", b"1")), tar(("lib/.wh.x", b""))) == ["abs", "lib"]
    out = tar(link("out", "../../../etc"))
    assert names(out, tar(("out/passwd", b"1"))) == ["etc/passwd", "out"]


def test_a_hard_link_is_the_same_content_in_another_place(tmp_path):
    layers = (tar(("a", b"one")), tar(link("b", "a", tarfile.LNKTYPE), ("a", b"two")))
    found = image(*layers)
    laid_out(found, merged(found), tmp_path / "root")
    assert (tmp_path / "root/a").read_bytes() == b"two"
    assert (tmp_path / "root/b").read_bytes() == b"one"


@pytest.mark.parametrize("target", ["/etc/passwd", "../etc/passwd", "nowhere", "folder", ""])
def test_a_hard_link_to_no_file_of_the_image_is_refused(target):
    with pytest.raises(ImageError, match="expected a file of this image"):
        names(tar(("folder/", None), link("x", target, tarfile.LNKTYPE)))


def test_an_image_of_more_bytes_than_functions_may_have_is_refused():
    tree = Merged("app")
    tree.begin()
    tree.add(Entry(("a",), Kind.FILE, 0o644, MAX_IMAGE, "", 512))
    with pytest.raises(ImageError, match=f"image app: over {MAX_IMAGE} bytes"):
        tree.add(Entry(("b",), Kind.FILE, 0o644, 1, "", 512))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/.."])
def test_a_path_that_leads_upward_is_refused(name):
    with pytest.raises(ImageError, match="leads upward"):
        names(tar((name, b"1")))


def test_devices_and_pipes_are_passed_over_and_counted(tmp_path):
    device, pipe = tarfile.TarInfo("dev/sda"), tarfile.TarInfo("pipe")
    device.type, pipe.type = tarfile.BLKTYPE, tarfile.FIFOTYPE
    found = image(tar(("pipe", b"1")), tar(device, pipe))
    tree = merged(found)
    assert tree.layers[1].passed == 2
    laid_out(found, tree, tmp_path / "root")
    assert sorted(path.name for path in (tmp_path / "root").rglob("*")) == ["dev"]


def test_modes_are_made_safe(tmp_path):
    program = tarfile.TarInfo("program")
    program.mode = 0o6755
    secret = tarfile.TarInfo("secret")
    secret.mode = 0o600
    folder = tarfile.TarInfo("folder")
    folder.type, folder.mode = tarfile.DIRTYPE, 0
    found = image(tar(program, secret, folder, ("folder/x", b"1")))
    laid_out(found, merged(found), tmp_path / "root")
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "root").rglob("*")}
    assert modes == {"program": 0o755, "secret": 0o644, "folder": 0o755, "x": 0o644}


def test_links_in_a_circle_are_refused_on_the_way_and_kept_as_links(tmp_path):
    circle = tar(link("a", "b"), link("b", "a"), link("c", "a/../../../x"))
    with pytest.raises(ImageError, match="circle"):
        names(circle, tar(("a/x", b"1")))
    found = image(circle)
    laid_out(found, merged(found), tmp_path / "root")
    assert inside(tmp_path / "root")


def test_a_file_above_a_file_is_refused():
    with pytest.raises(ImageError, match="lies in a file"):
        names(tar(("a", b"1")), tar(("a/b", b"2")))


def inside(root):
    """Return whether no link below ``root`` leads out of it, whoever follows it."""
    real = os.path.realpath(root)
    return all(
        os.path.realpath(path).startswith(real + "/") or os.path.realpath(path) == real
        for path in root.rglob("*")
        if path.is_symlink()
    )


NAME = st.sampled_from(["a", "b", "c", "d", ".wh.a", ".wh.b", ".wh..wh..opq"])
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)
TARGET = st.tuples(
    st.sampled_from(["", "/"]),
    st.lists(st.sampled_from(["a", "b", "c", "d", "..", "."]), min_size=1, max_size=6),
).map(lambda pair: pair[0] + "/".join(pair[1]))
ENTRY = st.one_of(
    st.tuples(PATH, st.one_of(st.none(), st.binary(max_size=20))),
    st.builds(link, PATH, TARGET),
    st.builds(link, PATH, TARGET, st.just(tarfile.LNKTYPE)),
)
LAYERS = st.lists(st.lists(ENTRY, max_size=8), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(LAYERS)
def test_whatever_layers_say_nothing_leads_out_of_the_image(tmp_path_factory, layers):
    root = tmp_path_factory.mktemp("image") / "root"
    found = image(*(tar(*layer) for layer in layers))
    try:
        tree = merged(found)
    except ImageError:
        return
    laid_out(found, tree, root)
    assert inside(root)
    for path, node in paths(tree).items():
        written = root / path
        assert written.is_symlink() == isinstance(node, Link)
        assert os.path.realpath(written.parent) == str(written.parent)
        if isinstance(node, File):
            assert written.stat().st_size == node.size


@settings(max_examples=200, deadline=None)
@given(st.lists(ENTRY, max_size=8), st.data())
def test_damage_to_a_tar_is_an_image_error_or_nothing_worse(layer, data):
    body = bytearray(tar(*layer))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)))
    try:
        names(bytes(body[:end]))
    except ImageError:
        return


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abcdefgé/", min_size=1, max_size=300), st.binary(max_size=2000)),
        max_size=5,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_a_tar_is_read_as_pythons_own_reads_it(files, form):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as archive:
        expected = [
            ("/".join(part for part in each.name.split("/") if part), each.offset_data, each.size)
            for each in archive
            if each.isfile()
        ]
    read = io.BytesIO(sink.getvalue()).read
    if any(len(part.encode()) > 255 for name, _ in files for part in name.split("/")):
        with pytest.raises(ImageError, match="expected at most"):
            list(entries(read))
        return
    found = [(entry, b"".join(content.pieces())) for entry, content in entries(read)]
    ours = [("/".join(entry.path), entry.start, entry.size) for entry, body in found if entry.size]
    assert ours == [each for each in expected if each[2]]
    assert all(first[0].start < second[0].start for first, second in pairwise(found))

"""Every field that we copied by hand, against the metadata of envoy-data-plane."""

import importlib
from typing import get_args

import betterproto2
import pytest

import policy.wire
import telemetry.wire
import xds.csds.wire
import xds.health.wire
import xds.load.wire
import xds.wire
from wherry.protobuf import messages

TABLES = {
    "xds": xds.wire.MESSAGES,
    "policy": policy.wire.MESSAGES,
    "telemetry": telemetry.wire.MESSAGES,
    "load": xds.load.wire.MESSAGES,
    "health": xds.health.wire.MESSAGES,
    "csds": xds.csds.wire.MESSAGES,
}
"""One entry for each wire module; every message in it that names its original is checked."""

KINDS = {
    "s": {betterproto2.TYPE_STRING},
    "by": {betterproto2.TYPE_BYTES},
    "b": {betterproto2.TYPE_BOOL},
    "i32": {betterproto2.TYPE_INT32},
    "i64": {betterproto2.TYPE_INT64},
    "u32": {betterproto2.TYPE_UINT32},
    "u64": {betterproto2.TYPE_UINT64},
    "f": {betterproto2.TYPE_FLOAT},
    "d": {betterproto2.TYPE_DOUBLE},
    "enum": {betterproto2.TYPE_ENUM},
}

COPIES = [
    pytest.param(table, shape, id=f"{room}-{shape.name}")
    for room, table in TABLES.items()
    for shape in table.shapes
    if shape.upstream
]


def split(full_name):
    """Return the package and the name within it, nested names joined."""
    parts = full_name.split(".")
    first = next(i for i, part in enumerate(parts) if part[0].isupper())
    return ".".join(parts[:first]), "".join(parts[first:])


def original(full_name):
    package, name = split(full_name)
    module = importlib.import_module(f"envoy_data_plane.{package}")
    names = {each.lower(): each for each in vars(module)}
    return getattr(module, names[name.lower()])


def message_of(cls, name, metadata):
    """Return the class of the messages that a field holds."""
    if metadata.unwrap:
        return metadata.unwrap()
    hint = cls._type_hints()[name]
    while not (isinstance(hint, type) and issubclass(hint, betterproto2.Message)):
        hint = next(a for a in reversed(get_args(hint)) if a is not type(None))
    return hint


@pytest.mark.parametrize(("table", "shape"), COPIES)
def test_a_copied_message_has_the_names_numbers_and_types_of_its_original(table, shape):
    upstreams = {each.name: each.upstream for each in table.shapes}
    cls = original(shape.upstream)
    known = cls._betterproto.meta_by_field_name
    for field in shape.fields:
        metadata = known[field.name]
        assert metadata.number == field.number, field
        assert bool(metadata.repeated) == field.repeated, field
        assert bool(metadata.map_meta) == bool(field.key), field
        assert metadata.group == field.oneof, field
        value = metadata
        if metadata.map_meta:
            key, value = metadata.map_meta
            assert key.proto_type in KINDS[field.key], field
        if field.type in KINDS:
            assert value.proto_type in KINDS[field.type], field
            continue
        assert value.proto_type == betterproto2.TYPE_MESSAGE, field
        given = field.type.lstrip(".") if field.type.startswith(".") else upstreams[field.type]
        assert message_of(cls, field.name, metadata) is original(given), field


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_message_is_given_twice(table):
    names = [shape.name for shape in table.shapes]
    assert len(names) == len(set(names))


def test_every_scalar_list_map_and_oneof_travels():
    table = messages(
        "test.travel",
        """
        Leaf text:s=1      # a comment
        Tree s:s=1 by:by=2 b:b=3 i32:i32=4 i64:i64=5 u32:u32=6 u64:u64=7 f:f=8 d:d=9 e:enum=10
            leaves:*Leaf=11 named:map<s,Leaf>=12 counts:map<s,i64>=13
            left:Leaf=14@side right:s=15@side when:.google.protobuf.Timestamp=16
        """,
    )
    leaf = table["Leaf"](text="leaf")
    tree = table["Tree"](
        s="s", by=b"by", b=True, i32=-1, i64=-(1 << 40), u32=1 << 31, u64=1 << 63, f=0.5, d=0.25,
        e=7, leaves=[leaf], named={"x": leaf}, counts={"y": -3}, right="r",
    )  # fmt: skip
    tree.when.FromNanoseconds(5)
    again = table["Tree"].FromString(tree.SerializeToString())
    assert again == tree
    assert again.WhichOneof("side") == "right"
    again.left.text = "l"
    assert again.WhichOneof("side") == "left"


@pytest.mark.parametrize("spec", ["Bad-name x:s=1", "A x=1", "A x:s", "A x:map<s>=1"])
def test_a_table_that_cannot_be_read_is_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        messages("test.bad", spec)


def test_two_tables_may_describe_the_same_package():
    one, two = messages("test.same", "A x:s=1"), messages("test.same", "A x:u32=1")
    assert one["A"](x="text").x == "text"
    assert two["A"](x=3).x == 3

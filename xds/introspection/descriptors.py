"""Descriptors of the services on the port, from the tables that their messages are built from.

A message is described under the name that it copies, with the fields that some table has; what
several tables have of it is put together. An enum is described as an int32, as the tables do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from wherry.protobuf import SCALARS, Field, Messages, Shape

_WELL_KNOWN = {
    name: module.DESCRIPTOR
    for module in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
    for name in module.DESCRIPTOR.message_types_by_name
}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service.

    Attributes:
        name: As in the ``.proto`` file.
        request: Full name of the message that a client sends.
        response: Full name of the message that it gets.
        client_streams: Whether it sends many.
        server_streams: Whether it gets many.
    """

    name: str
    request: str
    response: str
    client_streams: bool = False
    server_streams: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its full name and its methods."""

    name: str
    methods: tuple[Method, ...]


class Descriptors:
    """Files that describe ``services`` and every message of ``tables``, one a package.

    Raises:
        TypeError: A method's message is in no table, or tables disagree about a field.
    """

    def __init__(self, services: Sequence[Service], tables: Iterable[Messages]) -> None:
        self.services = tuple(sorted(service.name for service in services))
        files = _Files()
        for table in tables:
            files.add_messages(table)
        for service in services:
            files.add_service(service)
        self._files = files.finished()
        self._symbols = {
            symbol: file.name for file in self._files.values() for symbol in _symbols(file)
        }
        _check(self._files)

    def file(self, name: str) -> tuple[bytes, ...] | None:
        """Return the file ``name`` and all that it needs, or None if there is none."""
        return tuple(self._closure(name)) if name in self._files else None

    def containing(self, symbol: str) -> tuple[bytes, ...] | None:
        """Return the file with a service, method, message or field and all that it needs."""
        while symbol and symbol not in self._symbols:
            parent, _, last = symbol.rpartition(".")
            if last not in self._members(parent):
                return None
            symbol = parent
        return self.file(self._symbols[symbol]) if symbol else None

    def has_message(self, name: str) -> bool:
        """Return whether ``name`` is a message here."""
        file = self._files.get(self._symbols.get(name, ""))
        return file is not None and not any(
            name == f"{file.package}.{service.name}" for service in file.service
        )

    def _members(self, name: str) -> frozenset[str]:
        file = self._files.get(self._symbols.get(name, ""))
        if file is None:
            return frozenset()
        for service in file.service:
            if name == f"{file.package}.{service.name}":
                return frozenset(method.name for method in service.method)
        found = next(m for full, m in _messages(file.package, file.message_type) if full == name)
        return frozenset(field.name for field in found.field)

    def _closure(self, name: str) -> Iterator[bytes]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            if (one := waiting.pop()) not in seen:
                seen.add(one)
                yield self._files[one].SerializeToString()
                waiting.extend(self._files[one].dependency)


class _Files:
    def __init__(self) -> None:
        self._files: dict[str, FileDescriptorProto] = {}
        self._messages: dict[str, DescriptorProto] = {}

    def add_messages(self, table: Messages) -> None:
        names = {shape.name: _full_name(table, shape) for shape in table.shapes}
        for shape in table.shapes:
            message = self._message(names[shape.name])
            for field in shape.fields:
                self._add_field(names[shape.name], message, field, names)

    def add_service(self, service: Service) -> None:
        package, _, name = service.name.rpartition(".")
        described = self._file(package).service.add(name=name)
        for method in service.methods:
            described.method.add(
                name=method.name,
                input_type=self._reference(package, method.request),
                output_type=self._reference(package, method.response),
                client_streaming=method.client_streams,
                server_streaming=method.server_streams,
            )

    def finished(self) -> Mapping[str, FileDescriptorProto]:
        needed = {dependency for file in self._files.values() for dependency in file.dependency}
        for known in _WELL_KNOWN.values():
            if known.name in needed:
                file = self._files[known.name] = FileDescriptorProto()
                known.CopyToProto(file)
        return self._files

    def _file(self, package: str) -> FileDescriptorProto:
        name = _file_name(package)
        if name not in self._files:
            self._files[name] = FileDescriptorProto(name=name, package=package, syntax="proto3")
        return self._files[name]

    def _message(self, full_name: str) -> DescriptorProto:
        if full_name not in self._messages:
            parent, _, name = full_name.rpartition(".")
            if _is_message(parent):
                made = self._message(parent).nested_type.add(name=name)
            else:
                made = self._file(parent).message_type.add(name=name)
            self._messages[full_name] = made
        return self._messages[full_name]

    def _add_field(
        self, owner: str, message: DescriptorProto, field: Field, names: Mapping[str, str]
    ) -> None:
        entry = FieldDescriptorProto(
            name=field.name, number=field.number, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        if field.repeated or field.key:
            entry.label = FieldDescriptorProto.LABEL_REPEATED
        if field.key:
            name = "".join(part.title() for part in field.name.split("_")) + "Entry"
            entry.type = FieldDescriptorProto.TYPE_MESSAGE
            entry.type_name = f".{owner}.{name}"
            if all(nested.name != name for nested in message.nested_type):
                pair = message.nested_type.add(name=name)
                pair.options.map_entry = True
                for number, part in enumerate((("key", field.key), ("value", field.type)), 1):
                    self._add_field(owner, pair, Field(part[0], number, part[1]), names)
        else:
            self._set_type(owner, entry, field.type, names)
        if field.oneof:
            entry.oneof_index = _oneof(message, field.oneof)
        known = next((each for each in message.field if each.number == field.number), None)
        if known is None:
            message.field.append(entry)
        elif known != entry:
            raise TypeError(f"{owner}.{field.name}: two tables disagree, expected one form")

    def _set_type(
        self, owner: str, entry: FieldDescriptorProto, kind: str, names: Mapping[str, str]
    ) -> None:
        if kind in SCALARS:
            entry.type = SCALARS[kind]
            return
        entry.type = FieldDescriptorProto.TYPE_MESSAGE
        full_name = kind.lstrip(".") if kind.startswith(".") else names[kind]
        entry.type_name = self._reference(_package(owner), full_name)

    def _reference(self, package: str, full_name: str) -> str:
        """Return how a field or method of ``package`` names a message, and note the need."""
        file, other = self._file(package), _package(full_name)
        if other == "google.protobuf":
            needed = _WELL_KNOWN[full_name.rpartition(".")[2]].name
        else:
            needed = _file_name(other)
        if needed not in (file.name, *file.dependency):
            file.dependency.append(needed)
        return f".{full_name}"


def _full_name(table: Messages, shape: Shape) -> str:
    return shape.upstream or str(table[shape.name].DESCRIPTOR.full_name)


def _is_message(name: str) -> bool:
    return name.rpartition(".")[2][:1].isupper()


def _package(full_name: str) -> str:
    package = full_name.rpartition(".")[0]
    return _package(package) if _is_message(package) else package


def _file_name(package: str) -> str:
    return package.replace(".", "/") + ".proto"


def _oneof(message: DescriptorProto, name: str) -> int:
    for index, oneof in enumerate(message.oneof_decl):
        if oneof.name == name:
            return index
    message.oneof_decl.add(name=name)
    return len(message.oneof_decl) - 1


def _messages(
    prefix: str, messages: Iterable[DescriptorProto]
) -> Iterator[tuple[str, DescriptorProto]]:
    for message in messages:
        full_name = f"{prefix}.{message.name}"
        yield full_name, message
        yield from _messages(full_name, message.nested_type)


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield f"{file.package}.{service.name}"
    for full_name, _ in _messages(file.package, file.message_type):
        yield full_name
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"


def _check(files: Mapping[str, FileDescriptorProto]) -> None:
    """Build every file, needed ones first, so that a hole shows now and not at a client."""
    pool = descriptor_pool.DescriptorPool()
    done: set[str] = set()

    def build(name: str) -> None:
        if name in done:
            return
        done.add(name)
        if name not in files:
            raise TypeError(f"{name}: described by no table, expected every message's own")
        for dependency in files[name].dependency:
            build(dependency)
        pool.AddSerializedFile(files[name].SerializeToString())

    for name in files:
        build(name)

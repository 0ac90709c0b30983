"""The files of an image: its layers merged in order, as container runtimes do. Pure.

No path ever leaves the image: links on the way to an entry are followed inside of it, an
absolute one from its root, and `Merged.link` returns texts that stay inside for whoever follows
them on the host.

Source: https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from faas.oci.documents import ImageError
from faas.oci.streams import MAX_IMAGE
from faas.oci.tar import Entry, Kind

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."
_MAX_HOPS = 40
_MAX_HOPS_OF_ALL = 2_000_000
_MAX_PARTS = 512
MAX_DEPTH = 128

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file of the merged image.

    Attributes:
        layer: The layer that put it there, from 0.
        source: Where its content is: a layer, and the offset in that layer's plain tar.
        executable: Whether it may be run.
    """

    layer: int
    source: tuple[int, int]
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of the merged image, with its text as the layer has it."""

    layer: int
    target: str


@dataclass(slots=True)
class Folder:
    """A folder of the merged image."""

    layer: int
    children: "dict[str, Folder | File | Link]" = field(default_factory=dict)


@dataclass(slots=True)
class Taken:
    """What became of one layer's entries.

    Attributes:
        entries: How many it has.
        removed: Files and links of lower layers that its whiteouts removed.
        passed: Devices and pipes, which functions cannot have.
    """

    entries: int = 0
    removed: int = 0
    passed: int = 0


class Merged:
    """An image's files; grows by one layer at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = Folder(0)
        self.layers: list[Taken] = []
        self.size = 0
        self._hops = 0

    def begin(self) -> None:
        """Begin the next layer."""
        self.layers.append(Taken())

    def add(self, entry: Entry) -> None:
        """Take an entry of the layer at hand.

        Raises:
            ImageError: It leads through a file, is a link to nothing, or is over a limit.
        """
        taken = self.layers[-1]
        taken.entries += 1
        if not entry.path:
            return
        if len(entry.path) > MAX_DEPTH:
            raise ImageError(f"{self._said(entry)}: over {MAX_DEPTH} folders deep, expected fewer")
        *above, name = entry.path
        if name.startswith(_WHITEOUT):
            self._white_out(tuple(above), name)
            return
        children = self._folder(tuple(above), entry).children
        if entry.kind is Kind.OTHER:
            children.pop(name, None)
            taken.passed += 1
        else:
            children[name] = self._node(entry, children.get(name))

    def walk(self) -> Iterator[tuple[Parts, Folder | File | Link]]:
        """Yield everything but the root, folders before what is in them, by name."""
        pending: list[tuple[Parts, Folder]] = [((), self.root)]
        while pending:
            above, folder = pending.pop()
            for name in sorted(folder.children):
                child = folder.children[name]
                yield (*above, name), child
                if isinstance(child, Folder):
                    pending.append(((*above, name), child))

    def find(self, path: str) -> tuple[Parts, Folder | File] | None:
        """Return where ``path``, followed through links inside the image, leads."""
        found = self.resolved(tuple(part for part in path.split("/") if part not in ("", ".")))
        if found is None:
            return None
        node = self.at(found)
        return None if node is None or isinstance(node, Link) else (found, node)

    def at(self, parts: Parts) -> Folder | File | Link | None:
        """Return what stands at ``parts`` itself; no link is followed."""
        node: Folder | File | Link = self.root
        for part in parts:
            if not isinstance(node, Folder) or part not in node.children:
                return None
            node = node.children[part]
        return node

    def link(self, parts: Parts) -> str:
        """Return a text for the link at ``parts`` that leads where its own does, inside the root.

        It has ``..`` at its beginning only, and no more of them than there are folders above,
        so that whoever follows such links on the host does not leave the root.
        """
        node = self.at(parts)
        assert isinstance(node, Link)  # noqa: S101
        text, above = node.target, parts[:-1]
        names = text.split("/")
        climbs = next((at for at, part in enumerate(names) if part != ".."), len(names))
        if not text.startswith("/") and climbs <= len(above) and ".." not in names[climbs:]:
            return text or "."
        target = self._toward(above, text)
        shared = 0
        while shared < min(len(target), len(above)) and target[shared] == above[shared]:
            shared += 1
        return "/".join([*[".."] * (len(above) - shared), *target[shared:]]) or "."

    def _toward(self, above: Parts, text: str) -> Parts:
        """Return where the text of a link in ``above`` leads; its last part is not followed."""
        *way, last = text.rstrip("/").split("/") or [""]
        base = () if text.startswith("/") else above
        resolved = self.resolved((*base, *way))
        if resolved is None:  # a circle of links: nothing is there, in the image or on the host
            return tuple(part for part in (*base, *way, last) if part not in ("", ".", ".."))
        if last in ("", "."):
            return resolved
        return resolved[:-1] if last == ".." else (*resolved, last)

    def resolved(self, parts: Parts) -> Parts | None:
        """Return ``parts`` with all links followed inside the root; what is missing stays.

        Returns None when links lead in a circle, or deeper than an image may be.
        """
        pending, done, hops = list(reversed(parts)), list[str](), 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            node = self.at((*done, part))
            if not isinstance(node, Link):
                done.append(part)
                if len(done) > MAX_DEPTH:
                    return None
                continue
            hops += 1
            self._hops += 1
            if self._hops > _MAX_HOPS_OF_ALL:
                raise ImageError(
                    f"image {self.name}: over {_MAX_HOPS_OF_ALL} links on the way to "
                    "its files, expected fewer"
                )
            if hops > _MAX_HOPS or len(pending) > _MAX_PARTS:
                return None
            if node.target.startswith("/"):
                done.clear()
            pending += reversed(node.target.split("/"))
        return tuple(done)

    @property
    def _layer(self) -> int:
        return len(self.layers) - 1

    def _said(self, entry: Entry) -> str:
        return f"image {self.name}: layer {self._layer + 1}: {'/'.join(entry.path)[:200]!r}"

    def _node(self, entry: Entry, found: Folder | File | Link | None) -> Folder | File | Link:
        """Return what an entry puts in the place of what was found there."""
        match entry.kind:
            case Kind.FOLDER:
                return Folder(self._layer, found.children if isinstance(found, Folder) else {})
            case Kind.LINK:
                return Link(self._layer, entry.target)
            case Kind.SAME:
                return self._same(entry)
            case _:
                self.size += entry.size
                if self.size > MAX_IMAGE:
                    raise ImageError(f"image {self.name}: over {MAX_IMAGE} bytes, expected fewer")
                source = (self._layer, entry.start)
                return File(self._layer, source, entry.size, bool(entry.mode & 0o111))

    def _folder(self, parts: Parts, entry: Entry) -> Folder:
        """Return the folder that ``parts`` lead to, made as far as it is missing."""
        resolved = self.resolved(parts)
        if resolved is None or len(resolved) > MAX_DEPTH:
            raise ImageError(f"{self._said(entry)}: links in a circle, expected a folder above it")
        folder = self.root
        for part in resolved:
            child = folder.children.setdefault(part, Folder(self._layer))
            if not isinstance(child, Folder):
                raise ImageError(f"{self._said(entry)}: lies in a file, expected a folder above it")
            folder = child
        return folder

    def _same(self, entry: Entry) -> File | Link:
        """Return what a hard link stands for."""
        parts = tuple(part for part in entry.target.split("/") if part not in ("", "."))
        found = None
        if parts and ".." not in parts:
            above = self.resolved(parts[:-1])
            found = None if above is None else self.at((*above, parts[-1]))
        if found is None or isinstance(found, Folder):
            raise ImageError(
                f"{self._said(entry)}: hard link to {entry.target[:200]!r}, expected a file of "
                "this image"
            )
        return replace(found, layer=self._layer)

    def _white_out(self, above: Parts, name: str) -> None:
        resolved = self.resolved(above)
        folder = None if resolved is None else self.at(resolved)
        hidden = name.removeprefix(_WHITEOUT)
        if name != _OPAQUE and (name.startswith(_RESERVED) or hidden in ("", ".", "..")):
            return  # notes of aufs, of no meaning here
        if not isinstance(folder, Folder):
            return
        for child in list(folder.children) if name == _OPAQUE else [hidden]:
            if child in folder.children and self._pruned(folder.children[child]):
                del folder.children[child]

    def _pruned(self, node: Folder | File | Link) -> bool:
        """Remove what came from lower layers; return whether nothing is left."""
        if not isinstance(node, Folder):
            self.layers[-1].removed += node.layer < self._layer
            return node.layer < self._layer
        for name in [name for name, child in node.children.items() if self._pruned(child)]:
            del node.children[name]
        return node.layer < self._layer and not node.children

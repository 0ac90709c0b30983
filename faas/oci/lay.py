"""An image's merged files written under a folder, for functions to run in."""

import os
from collections import defaultdict
from pathlib import Path

from faas.oci.image import Image, contents, written
from faas.oci.tree import File, Folder, Link, Merged


def laid_out(image: Image, merged: Merged, root: Path) -> None:
    """Write the files of ``image`` under the new folder ``root``. Blocks.

    Whoever runs functions may read them and write none of them: folders and programs have mode
    755, other files 644, and no file keeps its owner or a set-user bit. No link leads out of
    ``root`` when it is followed on the host.

    Raises:
        ImageError: A layer is damaged.
    """
    root.mkdir()
    root.chmod(0o755)
    places: defaultdict[tuple[int, int], list[Path]] = defaultdict(list)
    modes: dict[tuple[int, int], int] = {}
    for parts, node in merged.walk():
        path = root.joinpath(*parts)
        match node:
            case Folder():
                path.mkdir()
                path.chmod(0o755)
            case Link():
                path.symlink_to(merged.link(parts))
            case File(size=0):
                path.touch()
                path.chmod(0o755 if node.executable else 0o644)
            case File():
                places[node.source].append(path)
                modes[node.source] = 0o755 if node.executable else 0o644
    for source, content in contents(image, places):
        first, *others = places[source]
        written(content, first)
        first.chmod(modes[source])
        for other in others:
            os.link(first, other)

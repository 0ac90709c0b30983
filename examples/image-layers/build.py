"""Builds a small container image, layer by layer, as an OCI layout: build.py FOLDER.

It stands for what `docker build` makes of this Dockerfile, and needs neither docker nor a network:

    FROM python:3.11-slim
    RUN pip install greetings awslambdaric
    COPY opt/names /opt/names
    COPY bin/shout /usr/local/bin/shout
    RUN rm -rf /usr/share/doc
    WORKDIR /function
    COPY function .
    ENV GREETING=loud
    ENTRYPOINT ["python", "-m", "awslambdaric"]
    CMD ["app.handler"]
"""

import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path

SOURCE = Path(__file__).parent / "image"
PACKAGES = "usr/local/lib/python3.11/site-packages"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def layer(files):
    """Return a layer's tar: content by path; the same files give the same bytes."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def copied(source, target):
    """Return the files below a folder of ours, as they stand in the image."""
    folder = SOURCE / source
    return {
        f"{target}/{path.relative_to(folder)}": (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def text(content, mode=0o644):
    """Return a small file."""
    return content.encode(), mode


LAYERS = [
    (
        "ADD file:debian in /",
        {
            "etc/os-release": text("ID=debian\n"),
            "usr/bin/env": text("", 0o755),
            "usr/share/doc/README": text("of the operating system\n"),
        },
    ),
    (
        "RUN make install python",
        {
            "usr/local/bin/python3.11": text("", 0o755),
            "usr/local/lib/python3.11/os.py": text(""),
            f"{PACKAGES}/pip/__init__.py": text(""),
        },
    ),
    (
        "RUN pip install greetings awslambdaric",
        {
            **copied("site-packages", PACKAGES),
            f"{PACKAGES}/awslambdaric/__init__.py": text(""),
        },
    ),
    ("COPY opt/names /opt/names", copied("opt", "opt")),
    ("COPY bin/shout /usr/local/bin/shout", copied("bin", "usr/local/bin")),
    ("RUN rm -rf /usr/share/doc", {"usr/share/.wh.doc": text("")}),
    ("COPY function .", copied("function", "function")),
]


def build(folder):
    """Write the layout."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def kept(body, kind):
        digest = hashlib.sha256(body).hexdigest()
        (blobs / digest).write_bytes(body)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(body),
        }

    tars = [layer(files) for _, files in LAYERS]
    config = {
        "architecture": MACHINE,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "GREETING=loud"],
            "Entrypoint": ["python", "-m", "awslambdaric"],
            "Cmd": ["app.handler"],
            "WorkingDir": "/function",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in tars],
        },
        "history": [{"created_by": step} for step, _ in LAYERS],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": kept(json.dumps(config).encode(), "config.v1+json"),
        "layers": [kept(gzip.compress(each, mtime=0), "layer.v1.tar+gzip") for each in tars],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [kept(json.dumps(manifest).encode(), "manifest.v1+json")],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


if __name__ == "__main__":
    build(Path(sys.argv[1]))

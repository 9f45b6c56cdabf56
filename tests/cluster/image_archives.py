"""Make image archives of one static program, for `ctr images import` and other tools.  Pure."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

# Names of architectures: for `uname` on the left, for Go and OCI on the right.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI = "application/vnd.oci.image"


def archive(reference: str, program: bytes, *, name: str, architecture: str) -> bytes:
    """Return an OCI image archive whose only file, "/NAME", is the program and entry point.

    `architecture` is the output of `uname -m`.  The same arguments give the same bytes.
    """
    layer = _tar({name: program}, mode=0o755)
    config = {
        "architecture": ARCHITECTURES.get(architecture, architecture),
        "os": "linux",
        "config": {"Entrypoint": [f"/{name}"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [_json(config), layer]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _described(f"{_OCI}.config.v1+json", blobs[0]),
        "layers": [_described(f"{_OCI}.layer.v1.tar", layer)],
    }
    blobs.append(_json(manifest))
    names = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**_described(f"{_OCI}.manifest.v1+json", blobs[-1]), "annotations": names},
        ],
    }
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/sha256/{_digest(blob).partition(':')[2]}": blob for blob in blobs}
    return _tar(files, mode=0o644)


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _described(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()

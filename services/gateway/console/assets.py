"""Styles, scripts and pictures: read once, sent packed, kept by browsers for as long as the content is the same."""

import gzip
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
_SENT: Final = (".css", ".js", ".svg")
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `digest` stands in its address, so another content is another address."""

    body: bytes
    packed: bytes
    kind: str
    digest: str


class Assets:
    """All that pages may refer to."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._assets: Mapping[str, Asset] = {
            path.relative_to(folder).as_posix(): _read(path) for path in folder.rglob("*") if path.suffix in _SENT
        }

    def address(self, name: str) -> str:
        """Where a browser finds the file."""
        return f"/console/static/{name}?v={self._assets[name].digest}"

    def answer(self, request: Request) -> Response | None:
        """The file that the path names; None where there is none."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return None
        tag = f'"{asset.digest}"'
        kept = _FOR_EVER if request.query_params.get("v") == asset.digest else "no-cache"
        headers = {"cache-control": kept, "etag": tag, "vary": "accept-encoding", "x-content-type-options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, media_type=asset.kind, headers=headers | {"content-encoding": "gzip"})
        return Response(asset.body, media_type=asset.kind, headers=headers)


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(body, gzip.compress(body, mtime=0), kind, sha256(body).hexdigest()[:16])

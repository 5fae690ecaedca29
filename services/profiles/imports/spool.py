"""Files that wait for their job: on disk in pieces, each sealed under the job's key, so that any place of them can be read."""

import io
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.errors import Exhausted, InvalidArgument, Reason
from services.profiles.vault import NONCE_BYTES, open_sealed, seal

PIECE_BYTES: Final = 256 * 1024
# What one call carries: some pieces, so that calls are few; pieces are small, so that a wide Parquet file needs little memory.
CHUNK_BYTES: Final = 4 * PIECE_BYTES
_PIECES: Final = CHUNK_BYTES // PIECE_BYTES
_TAG_BYTES: Final = 16
_SEALED_BYTES: Final = NONCE_BYTES + PIECE_BYTES + _TAG_BYTES
_SUFFIX: Final = ".sealed"
# Of opened pieces that are kept: a Parquet file is read at one place for each column.
_KEPT_PIECES: Final = 16


class Spool:
    """The folder. Nothing in it can be read without the keys in the database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, tenant_id: str, job_id: UUID) -> Path:
        return self._folder / tenant_id / f"{job_id}{_SUFFIX}"

    def write(self, tenant_id: str, job_id: UUID, cipher: AESGCM, index: int, content: bytes) -> None:
        """One chunk, on disk when this returns; again is the same. Raises Exhausted where the disk is full."""
        path = self.path(tenant_id, job_id)
        first, bound = index * _PIECES, binding(tenant_id, job_id)
        pieces = [
            seal(cipher, content[at : at + PIECE_BYTES], _bound_piece(bound, first + number))
            for number, at in enumerate(range(0, len(content), PIECE_BYTES))
        ]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, b"".join(pieces), first * _SEALED_BYTES)
        except OSError as error:
            message = "there is no room for the file, or its folder cannot be written"
            raise Exhausted(message, reason=Reason.QUEUE_FULL, retry_after_s=60.0) from error

    def settle(self, tenant_id: str, job_id: UUID, size_bytes: int) -> None:
        """The file's name is on disk too. Raises InvalidArgument where it is not as long as its chunks together."""
        path = self.path(tenant_id, job_id)
        if not path.exists() or path.stat().st_size != sealed_bytes(size_bytes):
            raise InvalidArgument("the upload has not all of its chunks", reason=Reason.MALFORMED_FILE, field="size_bytes")
        for folder in (path.parent, self._folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, tenant_id: str, job_id: UUID) -> None:
        """Gone, also where it was not there."""
        self.path(tenant_id, job_id).unlink(missing_ok=True)

    def idle_s(self, tenant_id: str, job_id: UUID) -> float | None:
        """Seconds since the last chunk; None where there is no file."""
        try:
            return time.time() - self.path(tenant_id, job_id).stat().st_mtime
        except FileNotFoundError:
            return None

    def files(self) -> Iterator[tuple[str, UUID]]:
        """(tenant, job) of each file."""
        for path in self._folder.glob(f"*/*{_SUFFIX}"):
            yield path.parent.name, UUID(path.name.removesuffix(_SUFFIX))


def binding(tenant_id: str, job_id: UUID) -> bytes:
    """What is sealed for a job is bound to it."""
    return tenant_id.encode() + b"/import/" + job_id.bytes


def sealed_bytes(size_bytes: int) -> int:
    """How long a file of that size is on disk."""
    whole, rest = divmod(size_bytes, PIECE_BYTES)
    return whole * _SEALED_BYTES + (NONCE_BYTES + rest + _TAG_BYTES if rest else 0)


def _bound_piece(bound: bytes, number: int) -> bytes:
    return bound + number.to_bytes(8, "big")


def _write(path: Path, content: bytes, at: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        if os.pwrite(descriptor, content, at) != len(content):
            raise OSError("the disk took only a part")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


class SealedFile(io.RawIOBase):
    """The plain content, at any place. Raises Unreadable where the file was changed."""

    def __init__(self, path: Path, cipher: AESGCM, bound: bytes, size_bytes: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._cipher = cipher
        self._bound = bound
        self._size = size_bytes
        self._at = 0
        self._opened: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        parts: list[bytes] = []
        while self._at < end:
            number, skip = divmod(self._at, PIECE_BYTES)
            part = self._piece(number)[skip : skip + end - self._at]
            parts.append(part)
            self._at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, number: int) -> bytes:
        if (found := self._opened.get(number)) is None:
            self._file.seek(number * _SEALED_BYTES)
            plain_bytes = min(PIECE_BYTES, self._size - number * PIECE_BYTES)
            sealed = self._file.read(NONCE_BYTES + plain_bytes + _TAG_BYTES)
            found = self._opened[number] = open_sealed(self._cipher, sealed, _bound_piece(self._bound, number))
            if len(self._opened) > _KEPT_PIECES:
                self._opened.popitem(last=False)
        else:
            self._opened.move_to_end(number)
        return found

    def close(self) -> None:
        self._file.close()
        super().close()

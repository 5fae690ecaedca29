"""Files of any size on their way to profiles: never in memory as a whole, in chunks of one size, decompressed."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from rapport.profiles.v1 import imports_pb2
from starlette.requests import Request

from chassis.errors import Error, Exhausted, InvalidArgument, Reason
from services.gateway.clients import Services

# At a time in this process: each holds two chunks or so.
MOST_UPLOADS: Final = 8
# A client that sends nothing for so long has gone.
SILENCE_S: Final = 60.0
_PART_BYTES: Final = 256 * 1024
_GZIP: Final = 31  # zlib's number for gzip's header


class Uploads:
    """Bodies that become import jobs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._count = 0

    async def take(self, request: Request, asked: imports_pb2.CreateImportUploadRequest) -> imports_pb2.ImportJob:
        """The job, its file on disk. Raises what stands against it; nothing stays of an upload that breaks off."""
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise InvalidArgument("the body's encoding is not known; gzip and none are", reason=Reason.UNSUPPORTED_ENCODING)
        if self._count >= MOST_UPLOADS:
            raise Exhausted("too many files are being sent", reason=Reason.QUEUE_FULL, retry_after_s=10.0)
        self._count += 1
        try:
            parts = _received(request)
            return await self._keep(_inflated(parts) if "gzip" in encoding else parts, asked)
        finally:
            self._count -= 1

    async def _keep(self, parts: AsyncGenerator[bytes], asked: imports_pb2.CreateImportUploadRequest) -> imports_pb2.ImportJob:
        imports = self._services.imports
        upload = await imports.CreateImportUpload(asked)
        try:
            size, index = 0, 0
            async with aclosing(_chunks(parts, upload.chunk_bytes)) as chunks:
                async for chunk in chunks:
                    request = imports_pb2.WriteImportChunkRequest(upload_id=upload.upload_id, index=index, content=chunk)
                    await imports.WriteImportChunk(request)
                    size, index = size + len(chunk), index + 1
            created = imports_pb2.CreateImportJobRequest(upload_id=upload.upload_id, size_bytes=size)
            return (await imports.CreateImportJob(created)).job
        except BaseException:
            # Profiles finds it by itself after a while, where it does not answer now. Nothing happens to what is a job.
            with suppress(Error):
                await asyncio.shield(
                    imports.DeleteImportUpload(imports_pb2.DeleteImportUploadRequest(upload_id=upload.upload_id))
                )
            raise


async def _received(request: Request) -> AsyncGenerator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await request.receive()
        except TimeoutError:
            raise _cut_off() from None
        if message["type"] == "http.disconnect":
            raise _cut_off()
        if body := message.get("body", b""):
            yield body
        more = message.get("more_body", False)


async def _inflated(parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Piece by piece, so that a small body does not unfold in memory; several gzip files in a row are one."""
    inflater = zlib.decompressobj(_GZIP)
    begun = False
    try:
        async with aclosing(parts) as packed_parts:
            async for packed in packed_parts:
                while packed:
                    if inflater.eof:
                        inflater, begun = zlib.decompressobj(_GZIP), False
                    plain = await asyncio.to_thread(inflater.decompress, packed, _PART_BYTES)
                    begun = True
                    if plain:
                        yield plain
                    packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        while begun and not inflater.eof:  # what it has taken in and not given out
            if not (plain := await asyncio.to_thread(inflater.decompress, b"", _PART_BYTES)):
                raise _no_gzip()
            yield plain
    except zlib.error:
        raise _no_gzip() from None


async def _chunks(parts: AsyncGenerator[bytes], chunk_bytes: int) -> AsyncGenerator[bytes]:
    """All of the same size but the last."""
    gathered = bytearray()
    async with aclosing(parts) as rest:
        async for part in rest:
            gathered += part
            while len(gathered) >= chunk_bytes:
                yield bytes(gathered[:chunk_bytes])
                del gathered[:chunk_bytes]
    if gathered:
        yield bytes(gathered)


def _cut_off() -> InvalidArgument:
    return InvalidArgument("the body was cut off", reason=Reason.MALFORMED_FILE, field="body")


def _no_gzip() -> InvalidArgument:
    message = "the body is not gzip, though its Content-Encoding says so, or it was cut off"
    return InvalidArgument(message, reason=Reason.MALFORMED_FILE, field="body")

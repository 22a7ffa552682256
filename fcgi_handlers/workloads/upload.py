"""Large requests: the cost of moving bytes in. The answer is right only if every byte has arrived."""

from __future__ import annotations

import zlib

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, text

PARAMETERS = ("bytes",)


def build(size_bytes: int = 65536) -> Workload:
    """Return the workload; `size_bytes` is the length of every request's body."""
    sent = text(size_bytes)
    whole = (size_bytes, zlib.crc32(sent))
    right = response(_receipt(*whole))

    def answer(stdin: Stdin) -> bytes:
        body = stdin.read()
        received = (len(body), zlib.crc32(body))
        if received == whole:
            return right
        return response(_receipt(*received), status=b"400 Bad Request")

    name = parameterised("upload", size_bytes)
    return Workload(name=name, url_path=f"/{name}", body=_receipt(*whole), answer=answer, request_body=sent)


def _receipt(size_bytes: int, checksum: int) -> bytes:
    return b"received %d bytes, CRC-32 %08x\n" % (size_bytes, checksum)

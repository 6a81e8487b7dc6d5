"""Frames: a big-endian u32 length, then that many bytes of msgpack arrays, one after another.

A frame may carry any number of messages: each side puts into one frame what it has at hand when it
writes, so the cost of a frame is paid once per write, not per request. Sans I/O: bytes in, messages out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from jkcs_client.protocol.errors import ProtocolError
from jkcs_client.protocol.messages import FRAME_BYTES_MAX, MULTI_OPS_MAX

LENGTH_BYTES = 4


class FrameDecoder:
    """Turns a connection's bytes into messages. After an error it must not be fed again."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._unpacker = msgpack.Unpacker(
            use_list=True,
            raw=False,
            strict_map_key=True,
            max_buffer_size=frame_bytes_max,
            max_str_len=frame_bytes_max,
            max_bin_len=frame_bytes_max,
            max_array_len=max(1_000_000, MULTI_OPS_MAX),
            max_map_len=4096,
            max_ext_len=0,
        )

    def feed(self, data: bytes) -> list[list[Any]]:
        """All messages that are complete. Raises ProtocolError, naming what is wrong."""
        buffer = self._buffer
        if buffer:
            buffer += data
            view = memoryview(bytes(buffer)) if self._complete(buffer) else None
            if view is None:
                return []
            buffer.clear()
        else:
            view = memoryview(data)
        size = len(view)
        at = 0
        messages: list[list[Any]] = []
        while size - at >= LENGTH_BYTES:
            length = int.from_bytes(view[at : at + LENGTH_BYTES], "big")
            if length > self._frame_bytes_max:
                raise ProtocolError(f"frame of {length} bytes, limit {self._frame_bytes_max}")
            end = at + LENGTH_BYTES + length
            if end > size:
                break
            messages += self._messages(view[at + LENGTH_BYTES : end])
            at = end
        if at < size:
            buffer += view[at:]
        return messages

    def _complete(self, buffer: bytearray) -> bool:
        """Whether the buffer's first frame is whole, so that a large frame is not copied for every piece of it."""
        if len(buffer) < LENGTH_BYTES:
            return False
        length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
        return length > self._frame_bytes_max or len(buffer) >= LENGTH_BYTES + length

    def _messages(self, body: memoryview) -> list[list[Any]]:
        unpacker = self._unpacker
        before = unpacker.tell()
        try:
            unpacker.feed(body)
            messages = list(unpacker)
        except Exception as error:  # msgpack raises many kinds; to us all mean: not our protocol
            raise ProtocolError(f"frame is not valid msgpack: {type(error).__name__}") from error
        if unpacker.tell() - before != len(body):
            raise ProtocolError("frame ends inside a message")
        for message in messages:
            if type(message) is not list:
                raise ProtocolError(f"a message must be an array, not {type(message).__name__}")
        return messages


def frame(parts: Iterable[bytes]) -> bytes:
    """One frame around messages that are packed already."""
    body = b"".join(parts)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


def pack(message: Any) -> bytes:
    """Pack one message. Not to be called from two threads at once."""
    packed: bytes = _packer.pack(message)
    return packed

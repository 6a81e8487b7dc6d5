"""Frames: a big-endian u32 length, then that many bytes: one msgpack array of messages, each an array itself.

A frame may carry any number of messages: each side puts into one frame what it has at hand when it
writes, so the cost of a frame is paid once per write, not per request. Sans I/O: bytes in, messages out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgpack

from jkcs_client.protocol.errors import ProtocolError
from jkcs_client.protocol.messages import FRAME_BYTES_MAX

LENGTH_BYTES = 4
T = TypeVar("T")


class FrameDecoder:
    """Turns a connection's bytes into messages. After an error it must not be fed again."""

    def __init__(
        self,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        array_max: int = FRAME_BYTES_MAX,
        arrays_max: int = FRAME_BYTES_MAX,
    ) -> None:
        """`array_max` bounds every array inside a frame: what a stranger sends may claim arrays within arrays,
        and each claim is allocated before it is found to be empty. `arrays_max` bounds how many there are: an empty
        one is a byte on the wire and seventy in memory. Maps count as arrays."""
        self._frame_bytes_max = frame_bytes_max
        self._array_max = array_max
        self._arrays_max = arrays_max
        self._buffer = bytearray()

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
            messages += _messages(view[at + LENGTH_BYTES : end], self._array_max, self._arrays_max)
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


class _Counter:
    """Is shown each array and map of a frame as it is decoded, and refuses one too many."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, value: T) -> T:
        self._left -= 1
        if self._left < 0:
            raise ProtocolError("too many arrays in one frame")
        return value


def _messages(body: memoryview, array_max: int, arrays_max: int) -> list[list[Any]]:
    # Counting costs as much as decoding; a frame that is not larger than that cannot hold too many.
    counter = _Counter(arrays_max) if len(body) > arrays_max else None
    try:
        # Strings and maps are bounded by the body's own length.
        messages = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_ext_len=0,
            max_array_len=array_max,
            list_hook=counter,
            object_hook=counter,
        )
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises many kinds; to us all mean: not our protocol
        raise ProtocolError(f"frame is not one valid msgpack value: {type(error).__name__}") from error
    if type(messages) is not list:
        raise ProtocolError(f"a frame must hold an array of messages, not {type(messages).__name__}")
    for message in messages:
        if type(message) is not list:
            raise ProtocolError(f"a message must be an array, not {type(message).__name__}")
    return messages


def frame(messages: Sequence[bytes]) -> bytes:
    """One frame around messages that are packed already."""
    body = b"".join(messages)
    return _HEAD.pack(len(body) + _ARRAY_BYTES, _ARRAY32, len(messages)) + body


_HEAD = struct.Struct(">IBI")
_ARRAY32 = 0xDD
_ARRAY_BYTES = 5
"""A msgpack array of any size may begin with this marker and a u32 count."""

pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Pack one message. Bound once: it is called for every request and answer."""

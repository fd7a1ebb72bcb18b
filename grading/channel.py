"""Messages between the judge and the child that runs student code: a JSON header, then raw arrays.

Nothing is unpickled. The child is not trusted: `receive` checks the sizes that a message announces before it allocates
memory.
"""

import json
import math
import struct
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

DTYPES = frozenset({"<f4", "<f8", "<i4", "<i8", "|u1", "|i1", "|b1"})
HEADER_BYTES = 1 << 16
MAX_ARRAYS, MAX_DIMENSIONS = 64, 8
DEFAULT_CAP = 64 << 20  # bytes of all arrays of a message together

_LENGTH = struct.Struct("!I")


class Channel(Protocol):
    """The part of a socket that is needed here."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv_into(self, buffer: memoryview, nbytes: int = ..., /) -> int: ...

    def settimeout(self, value: float | None, /) -> None: ...


class ChannelError(Exception):
    """The data received is not one of our messages, or larger than allowed."""


def send(channel: Channel, header: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Sends one message. Raises ChannelError for arrays that `receive` would refuse."""
    described, blocks = [], []
    for name, array in arrays.items():
        array = np.asarray(array)
        array = np.ascontiguousarray(array).reshape(array.shape)
        dtype = array.dtype.newbyteorder("<").str if array.dtype.byteorder == ">" else array.dtype.str
        if dtype not in DTYPES:
            raise ChannelError(f"{name} has dtype {array.dtype}, which is not accepted: return real numbers")
        described.append({"name": name, "dtype": dtype, "shape": list(array.shape)})
        blocks.append(array.astype(dtype, copy=False).tobytes())
    text = json.dumps({**header, "arrays": described}, allow_nan=False).encode()
    if len(text) > HEADER_BYTES:
        raise ChannelError("the header is too long")
    channel.sendall(_LENGTH.pack(len(text)) + text)
    for block in blocks:
        channel.sendall(block)


def receive(
    channel: Channel, *, cap: int = DEFAULT_CAP, deadline: float | None = None
) -> tuple[dict, dict[str, np.ndarray]]:
    """One message: (header, arrays). `deadline` is a time of time.monotonic().

    Raises ChannelError for anything malformed or above `cap` bytes, EOFError if the other side has closed the channel,
    TimeoutError after the deadline.
    """
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, deadline))
    if length > HEADER_BYTES:
        raise ChannelError(f"a header of {length} bytes is too long")
    try:
        header = json.loads(_exactly(channel, length, deadline))
        described = header.pop("arrays")
        if len(described) > MAX_ARRAYS:
            raise ChannelError(f"{len(described)} arrays; {MAX_ARRAYS} are allowed")
        layout = [_layout(entry) for entry in described]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ChannelError("not one of our headers") from error
    sizes = [np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in layout]
    # The judge computes with 8 bytes per number. An empty array may have a shape that numpy refuses all the same.
    room = sum(8 * math.prod(max(n, 1) for n in shape) for _, _, shape in layout)
    if max(sum(sizes), room) > cap:
        raise ChannelError(f"{len(layout)} arrays with {room} bytes; {cap} bytes are allowed")
    arrays = {}
    for (name, dtype, shape), size in zip(layout, sizes, strict=True):
        arrays[name] = np.frombuffer(_exactly(channel, size, deadline), dtype=dtype).reshape(shape)
    return header, arrays


def _layout(entry: Mapping) -> tuple[str, str, tuple[int, ...]]:
    name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
    numbers = all(type(n) is int and 0 <= n < 2**31 for n in shape)
    if not (isinstance(name, str) and len(name) <= 80 and dtype in DTYPES):
        raise ValueError(f"array {name!r} of dtype {dtype!r}")
    if not numbers or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"array {name!r} of shape {shape!r}")
    return name, dtype, shape


def _exactly(channel: Channel, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            channel.settimeout(left)
        got = channel.recv_into(view[done:], min(count - done, 1 << 20))
        if not got:
            raise EOFError
        done += got
    return data

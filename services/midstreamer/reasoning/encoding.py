"""States to bytes and back, bit for bit: a version, then msgpack of the positional fields."""

from __future__ import annotations

import msgspec

from midstreamer.domain.errors import BadInput
from midstreamer.domain.state import State

FORMAT = b"\x01"
"""The first byte; another one means another layout of the state."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def encode(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    return FORMAT + _encoder.encode(state)


def decode(data: bytes) -> State:
    """The state of such bytes; BadInput when they are something else."""
    if data[:1] != FORMAT:
        raise BadInput(
            f"state format {data[:1].hex() or 'none'}: this library reads {FORMAT.hex()}"
        )
    try:
        return _decoder.decode(memoryview(data)[1:])
    except msgspec.DecodeError as error:
        raise BadInput(f"{len(data)} B are no learning state: {error}") from error

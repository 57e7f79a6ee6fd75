"""Codecs of messages: compiled when (class, version, direction) is first needed, then kept.

`decode` and `encode` are for any class with versions, framed or not; `framing` uses `decoder`
and `encoder` directly. What a compiled function raises becomes a DecodeError or an EncodeError
here, with the field and, when decoding, the position.
"""

from typing import TypeVar

from ottla.protocol.decoder import write_decoder
from ottla.protocol.encoder import write_encoder
from ottla.protocol.message import Struct
from ottla.protocol.source import Codec, Fields, fault_place
from ottla.protocol.wire import ENCODE_FAULTS, FAULTS, DecodeError, EncodeError, Part

S = TypeVar("S", bound=Struct)

_decoders: dict[tuple[type[Struct], int], Codec] = {}
_encoders: dict[tuple[type[Struct], int], Codec] = {}


def decoder(cls: type[Struct], version: int) -> Codec:
    """The codec whose function is (view, at) -> (message, end). ValueError where the class has
    no such version."""
    codec = _decoders.get((cls, version))
    if codec is None:
        _require(cls, version)
        codec = _decoders[cls, version] = write_decoder(cls, version)
    return codec


def encoder(cls: type[Struct], version: int) -> Codec:
    """The codec whose function is (message, parts) -> None: it appends to the last of `parts`,
    which must be a bytearray, and to `parts`."""
    codec = _encoders.get((cls, version))
    if codec is None:
        _require(cls, version)
        codec = _encoders[cls, version] = write_encoder(cls, version)
    return codec


def _require(cls: type[Struct], version: int) -> None:
    if version not in cls.__versions__:
        raise ValueError(f"{cls.__name__} has no version {version}")


def decode(cls: type[S], version: int, view: memoryview, at: int = 0) -> S:
    """The message that lies in `view` from `at` to its end, exactly."""
    codec = decoder(cls, version)
    message: S
    try:
        message, at = codec.function(view, at)
    except FAULTS as fault:
        raise decode_error(codec, fault, view) from None
    if at != len(view):
        raise trailing_error(codec, view, at)
    return message


def encode(message: Struct, version: int) -> list[Part]:
    """The parts of a message, in order: one bytearray, unless it holds records."""
    parts: list[Part] = [bytearray()]
    encode_into(message, version, parts)
    return parts


def encode_into(message: Struct, version: int, parts: list[Part]) -> None:
    codec = encoder(message.__class__, version)
    try:
        codec.function(message, parts)
    except ENCODE_FAULTS as fault:
        raise encode_error(codec, fault) from fault
    if len(parts) > 1 and not parts[-1]:
        parts.pop()


def decode_error(codec: Codec, fault: Exception, view: memoryview) -> DecodeError:
    fields, values = fault_place(codec, fault.__traceback__)
    at, end = values.get("at", 0), len(view)
    path = fields[0][0]
    if len(fields) > 1:
        path, at = _first_short(fields, at, end)
    cause = str(fault)
    if isinstance(fault, IndexError) or fault.__class__.__name__ == "error":
        cause = "the bytes end here"
    return DecodeError(f"{codec.file}: {path or 'message'} at byte {at} of {end}: {cause}")


def _first_short(fields: Fields, at: int, end: int) -> tuple[str, int]:
    """Of fields that are read in one go from `at`, the first that is not wholly there."""
    for path, size in fields[:-1]:
        if at + size > end:
            return path, at
        at += size
    return fields[-1][0], at


def trailing_error(codec: Codec, view: memoryview, at: int) -> DecodeError:
    return DecodeError(f"{codec.file}: {len(view) - at} bytes too many from byte {at}")


def encode_error(codec: Codec, fault: Exception) -> EncodeError:
    fields, _ = fault_place(codec, fault.__traceback__)
    paths = ", ".join(dict.fromkeys(path for path, _ in fields))
    return EncodeError(f"{codec.file}: {paths or 'message'}: {fault}")

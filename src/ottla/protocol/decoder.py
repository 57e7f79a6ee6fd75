"""Writes the function that decodes one class in one version.

    def decode(view, at):               # view: memoryview that ends with the frame
        end = len(view)
        o1 = new(DeleteRecordsTopic)
        n2, = read_h(view, at); at += 2
        ...
        return o1, at

Fields of fixed size that stand side by side are read by one struct call, together with the
length or count of what follows them (in a flexible version: its first byte) and the byte that
counts a struct's tagged fields: these reads wait in `_run` until something else must be read.
An array's count is held against the bytes that are left, at the least size an element has in
this version, before anything is allocated for it. A request may hold ELEMENTS_PER_REQUEST in
all: a frame at its cap could hold fifty million, which would stop a node for a minute.
"""

import struct
from typing import Any

from ottla.base.limits import ELEMENTS_PER_REQUEST
from ottla.protocol import types, wire
from ottla.protocol.message import Field, Request, Struct
from ottla.protocol.source import Codec, Source
from ottla.protocol.types import Kind

_NAMES: dict[str, Any] = {
    "Malformed": wire.Malformed,
    "uvarint": wire.uvarint,
    "read_tag": wire.read_tag,
    "skip_tags": wire.skip_tags,
    "unpack_from": struct.unpack_from,
    "new": object.__new__,
}


def write_decoder(cls: type[Struct], version: int) -> Codec:
    writer = _Decoder(version, version in cls.__flexible__)
    return writer.write(cls)


def least_bytes(cls: type[Struct], version: int, is_flexible: bool) -> int:
    """The size of the smallest struct of a class that a frame can hold."""
    size = 1 if is_flexible else 0
    for each in cls.__fields__:
        if version in each.versions and each.tag is None:
            size += _least_field_bytes(each, version, is_flexible)
    return size


def _least_field_bytes(each: Field, version: int, is_flexible: bool) -> int:
    if each.is_array:
        return 1 if is_flexible else 4
    if each.nested:
        is_nullable = version in each.nullable
        return 1 if is_nullable else least_bytes(each.nested, version, is_flexible)
    return each.kind.size or _prefix_bytes(each.kind, is_flexible)


def _prefix_bytes(kind: Kind, is_flexible: bool) -> int:
    if is_flexible:
        return 1
    return 2 if kind is types.string else 4


class _Decoder:
    def __init__(self, version: int, is_flexible: bool) -> None:
        self.version = version
        self.is_flexible = is_flexible
        self.source = Source(dict(_NAMES))
        self._is_request = False
        self._run: list[tuple[str, str, str]] = []
        """(struct code, target, path) of the reads that wait to be made together."""

    def write(self, cls: type[Struct]) -> Codec:
        source = self.source
        with source.block("def decode(view, at):"):
            source.line("end = len(view)")
            self._is_request = issubclass(cls, Request)
            if self._is_request:
                source.line(f"room = {ELEMENTS_PER_REQUEST}")
            message = self._struct(cls)
            self._flush()
            source.line(f"return {message}, at")
        return source.compile(f"<ottla decode {cls.__name__} v{self.version}>", "decode")

    def _read(self, code: str, target: str) -> None:
        self._run.append((code, target, self.source.path))

    def _flush(self) -> None:
        run, self._run = self._run, []
        if not run:
            return
        codes = "".join(code for code, _, _ in run)
        fields = tuple((path, struct.calcsize(f">{code}")) for code, _, path in run)
        if codes == "B":
            self.source.line(f"{run[0][1]} = view[at]; at += 1", fields)
            return
        format = struct.Struct(f">{codes}")
        read = self.source.name(f"read_{codes}".replace("?", "o"), format.unpack_from)
        targets = ", ".join(target for _, target, _ in run)
        comma = "," if len(run) == 1 else ""
        self.source.line(f"{targets}{comma} = {read}(view, at); at += {format.size}", fields)

    def _struct(self, cls: type[Struct], also: str = "") -> str:
        """Decode a struct into a new local, and `also` where that is given; returns the local."""
        made = self.source.local("o")
        name = self.source.name(cls.__name__, cls)
        self.source.line(f"{also}{made} = new({name})")
        tagged = []
        for each in cls.__fields__:
            with self.source.inside(each.name):
                if self.version not in each.versions:
                    self._missing(each, f"{made}.{each.name}", cls)
                elif each.tag is not None:
                    self._missing(each, f"{made}.{each.name}", cls)
                    tagged.append(each)
                else:
                    self._value(each, f"{made}.{each.name}")
        if self.is_flexible:
            self._tags(tagged, made)
        return made

    def _missing(self, each: Field, target: str, cls: type[Struct]) -> None:
        value = each.missing()
        if value is None or value.__class__ in (int, bool):
            self.source.line(f"{target} = {value!r}")
        elif value == []:
            self.source.line(f"{target} = []")
        elif each.factory is None:
            name = self.source.name(f"{cls.__name__}_{each.name}", value)
            self.source.line(f"{target} = {name}")
        else:
            name = self.source.name(f"{cls.__name__}_{each.name}", each.factory)
            self.source.line(f"{target} = {name}()")

    def _tags(self, tagged: list[Field], made: str) -> None:
        source = self.source
        with source.inside("tags"):
            count = source.local("n")
            self._read("B", count)
            self._flush()
            if not tagged:
                source.line(f"if {count}: at = skip_tags(view, at, {count})")
                return
            with source.block(f"if {count}:"):
                source.line(f"if {count} > 127: {count}, at = uvarint(view, at, {count})")
                tag, stop = source.local("tag"), source.local("stop")
                source.line(f"{tag} = -1")
                with source.block(f"for _ in range({count}):"):
                    source.line(f"{tag}, at, {stop} = read_tag(view, at, {tag})")
                    self._known_tags(tagged, made, tag, stop)

    def _known_tags(self, tagged: list[Field], made: str, tag: str, stop: str) -> None:
        source, word = self.source, "if"
        for each in sorted(tagged, key=lambda f: f.tag or 0):
            with source.block(f"{word} {tag} == {each.tag}:"), source.inside(each.name):
                self._value(each, f"{made}.{each.name}")
                self._flush()
                source.line(f"if at != {stop}: raise Malformed('size of the tag is wrong')")
            word = "elif"
        source.line(f"else: at = {stop}")

    def _value(self, each: Field, target: str) -> None:
        is_nullable = self.version in each.nullable
        if each.is_array:
            self._array(each, target, is_nullable)
        elif each.nested and is_nullable:
            self._nullable_struct(each.nested, target)
        elif each.nested:
            self._struct(each.nested, f"{target} = ")
        else:
            self._primitive(each.kind, target, is_nullable)

    def _nullable_struct(self, cls: type[Struct], target: str) -> None:
        mark = self.source.local("n")
        self._read("b", mark)
        self._flush()
        with self.source.block(f"if {mark} == 1:"):
            self._struct(cls, f"{target} = ")
            self._flush()
        self.source.line(f"elif {mark} == -1: {target} = None")
        self.source.line("else: raise Malformed('neither null (-1) nor present (1)')")

    def _primitive(self, kind: Kind, target: str, is_nullable: bool) -> None:
        if kind.code:
            self._read(kind.code, target)
            return
        source = self.source
        length = self._prefix("h" if kind is types.string else "i", kind is types.string)
        stop = source.local("stop")
        with source.block(f"if {length} {'> 0' if self.is_flexible else '>= 0'}:"):
            source.line(f"{stop} = at + {length}{' - 1' if self.is_flexible else ''}")
            source.line(f"if {stop} > end: raise Malformed('longer than what is left')")
            piece = f"view[at:{stop}]"
            if kind is types.string:
                piece = f"str({piece}, 'utf-8')"
            elif kind is types.binary:
                piece = f"bytes({piece})"
            source.line(f"{target} = {piece}; at = {stop}")
        null = "0" if self.is_flexible else "-1"
        if is_nullable:
            source.line(f"elif {length} == {null}: {target} = None")
        source.line("else: raise Malformed('length is negative')")

    def _prefix(self, code: str, is_text: bool = False) -> str:
        """Read a length or count; returns the local that holds it, plus one in a flexible
        version."""
        number = self.source.local("n")
        self._read("B" if self.is_flexible else code, number)
        self._flush()
        if self.is_flexible:
            with self.source.block(f"if {number} > 127:"):
                self.source.line(f"{number}, at = uvarint(view, at, {number})")
                if is_text:
                    most = types.STRING_MAX_BYTES + 1
                    self.source.line(f"if {number} > {most}: raise Malformed('text too long')")
        return number

    def _array(self, each: Field, target: str, is_nullable: bool) -> None:
        source = self.source
        count = self._prefix("i")
        if self.is_flexible:
            source.line(f"{count} -= 1")
        if not is_nullable:
            self._elements(each, target, count)
            return
        source.line(f"if {count} == -1: {target} = None")
        with source.block("else:"):
            self._elements(each, target, count)

    def _elements(self, each: Field, target: str, count: str) -> None:
        source, kind = self.source, each.kind
        if each.nested:
            least = least_bytes(each.nested, self.version, self.is_flexible)
        else:
            least = kind.size or _prefix_bytes(kind, self.is_flexible)
        source.line(
            f"if not 0 <= {count} * {least} <= end - at: "
            f"raise Malformed('count %d does not fit in what is left' % {count})"
        )
        if self._is_request:
            source.line(f"room -= {count}")
            source.line("if room < 0: raise Malformed('more elements than a request may hold')")
        if kind.code and kind is not types.uuid:
            code = f'f">{{{count}}}{kind.code}"'
            source.line(
                f"{target} = list(unpack_from({code}, view, at)); at += {count} * {kind.size}"
            )
            return
        rows = source.local("rows")
        source.line(f"{target} = {rows} = []")
        with source.block(f"for _ in range({count}):"), source.inside("[]"):
            if each.nested:
                element = self._struct(each.nested)
            else:
                element = source.local("e")
                self._primitive(kind, element, False)
            self._flush()
            source.line(f"{rows}.append({element})")

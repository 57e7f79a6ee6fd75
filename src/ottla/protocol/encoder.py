"""Writes the function that encodes one class in one version.

    def encode(o, parts):               # parts[-1]: bytearray that is being filled
        out = parts[-1]
        out += put_hi(o.acks, o.timeout_ms)
        ...

It appends to the last part, and to the list of parts where records must not be copied. As in
the decoder, what is of fixed size waits in `_run`, lengths and counts included, and is written
by one struct call; the empty tagged fields at the end of a struct are a pad byte (`x`) of it.
"""

import struct
from typing import Any

from ottla.protocol import types, wire
from ottla.protocol.message import Field, Struct
from ottla.protocol.source import Codec, Fields, Source
from ottla.protocol.types import Kind

_NAMES: dict[str, Any] = {
    "Malformed": wire.Malformed,
    "put_uvarint": wire.put_uvarint,
    "put_tags": wire.put_tags,
    "put_records": wire.put_records,
    "pack": struct.pack,
}


def write_encoder(cls: type[Struct], version: int) -> Codec:
    return _Encoder(version, version in cls.__flexible__).write(cls)


def _fields(run: list[tuple[str, str, str]]) -> Fields:
    return tuple((path, 0) for _, _, path in run)


class _Encoder:
    def __init__(self, version: int, is_flexible: bool) -> None:
        self.version = version
        self.is_flexible = is_flexible
        self.source = Source(dict(_NAMES))
        self._null, self._one = ("0", " + 1") if is_flexible else ("-1", "")
        self._out = "out"
        self._run: list[tuple[str, str, str]] = []
        """(struct code, expression, path) of the writes that wait to be made together."""

    def write(self, cls: type[Struct]) -> Codec:
        source = self.source
        with source.block("def encode(o, parts):"):
            source.line("out = parts[-1]")
            self._struct(cls, "o")
            self._flush()
        return source.compile(f"<ottla encode {cls.__name__} v{self.version}>", "encode")

    def _put(self, code: str, expression: str = "") -> None:
        self._run.append((code, expression, self.source.path))

    def _flush(self) -> None:
        run, self._run = self._run, []
        if run:
            self.source.line(f"{self._out} += {self._packed(run)}", _fields(run))

    def _packed(self, run: list[tuple[str, str, str]]) -> str:
        """An expression of the bytes of all that waits."""
        codes = "".join(code for code, _, _ in run)
        values = ", ".join(expression for _, expression, _ in run if expression)
        if not values:
            return repr(bytes(len(codes)))
        name = f"put_{codes}".replace("?", "o")
        return f"{self.source.name(name, struct.Struct(f'>{codes}').pack)}({values})"

    def _prefix(self, code: str, number: str) -> None:
        """Write a length or count that stands in the local `number`, where it is one more than
        the true one if the version is flexible, together with what waits."""
        source = self.source
        if not self.is_flexible:
            self._put(code, number)
            self._flush()
            return
        before, self._run = self._run, []
        if not before:
            source.line(f"if {number} < 128: {self._out}.append({number})")
            source.line(f"else: {self._out} += put_uvarint({number})")
            return
        fields = _fields(before)
        short = self._packed([*before, ("B", number, source.path)])
        long = f"{self._packed(before)} + put_uvarint({number})"
        source.line(f"if {number} < 128: {self._out} += {short}", fields)
        source.line(f"else: {self._out} += {long}", fields)

    def _struct(self, cls: type[Struct], made: str) -> None:
        tagged = []
        for each in cls.__fields__:
            with self.source.inside(each.name):
                if self.version not in each.versions:
                    self._forbid(each, made, cls)
                elif each.tag is not None:
                    tagged.append(each)
                else:
                    self._value(each, f"{made}.{each.name}")
        if tagged:
            self._tags(tagged, made, cls)
        elif self.is_flexible:
            self._put("x")

    def _differs(self, each: Field, value: str, cls: type[Struct]) -> str:
        """A condition: the field holds something else than its default."""
        default = each.missing()
        if each.is_array and default == []:
            return f"{value} != []" if each.nullable else value
        if default is None and each.nested and not each.nullable and not each.is_array:
            empty = self.source.name(f"{each.nested.__name__}_empty", each.nested())
            return f"{value} is not None and {value} != {empty}"
        if default is None:
            return f"{value} is not None"
        return f"{value} != {self.source.name(f'{cls.__name__}_{each.name}', default)}"

    def _forbid(self, each: Field, made: str, cls: type[Struct]) -> None:
        if not each.ignorable:
            differs = self._differs(each, f"{made}.{each.name}", cls)
            self.source.line(f"if {differs}: raise Malformed({wire.NOT_IN_VERSION!r})")

    def _tags(self, tagged: list[Field], made: str, cls: type[Struct]) -> None:
        source, outer = self.source, self._out
        self._flush()
        tags = source.local("tags")
        source.line(f"{tags} = None")
        for each in sorted(tagged, key=lambda f: f.tag or 0):
            value = f"{made}.{each.name}"
            with source.block(f"if {self._differs(each, value, cls)}:"), source.inside(each.name):
                self._out = source.local("out")
                source.line(f"{self._out} = bytearray()")
                self._value(each, value)
                self._flush()
                source.line(f"{tags} = {tags} or []; {tags}.append(({each.tag}, {self._out}))")
                self._out = outer
        source.line(f"if {tags}: put_tags({outer}, {tags})")
        source.line(f"else: {outer}.append(0)")

    def _value(self, each: Field, value: str) -> None:
        is_nullable = self.version in each.nullable
        if each.is_array:
            self._array(each, value, is_nullable)
        elif each.nested and is_nullable:
            self._nullable_struct(each.nested, value)
        elif each.nested:
            made = self.source.local("o")
            self.source.line(f"{made} = {value}")
            self._struct(each.nested, made)
        else:
            self._primitive(each.kind, value, is_nullable)

    def _nullable_struct(self, cls: type[Struct], value: str) -> None:
        source, made = self.source, self.source.local("o")
        self._flush()
        source.line(f"{made} = {value}")
        source.line(f"if {made} is None: {self._out} += b'\\xff'")
        with source.block("else:"):
            source.line(f"{self._out}.append(1)")
            self._struct(cls, made)
            self._flush()

    def _primitive(self, kind: Kind, value: str, is_nullable: bool) -> None:
        if kind is types.uuid:
            self.source.line(f"if len({value}) != 16: raise Malformed('not 16 bytes')")
        if kind.code:
            self._put(kind.code, value)
        elif kind is types.records:
            self._flush()
            self.source.line(f"out = put_records(parts, out, {value}, {self.is_flexible})")
        else:
            self._text(kind, value, is_nullable)

    def _text(self, kind: Kind, value: str, is_nullable: bool) -> None:
        """A string or bytes: its length joins what waits, then come its bytes."""
        source, is_string = self.source, kind is types.string
        text, length = source.local("s"), source.local("n")
        encoded = f"{value}.encode()" if is_string else value
        if is_nullable:
            source.line(f"if {value} is None: {text} = b''; {length} = {self._null}")
            with source.block("else:"):
                source.line(f"{text} = {encoded}; {length} = len({text}){self._one}")
        else:
            source.line(f"{text} = {encoded}; {length} = len({text}){self._one}")
        if is_string and self.is_flexible:
            most = types.STRING_MAX_BYTES + 1
            source.line(f"if {length} > {most}: raise Malformed('text too long')")
        self._prefix("h" if is_string else "i", length)
        source.line(f"{self._out} += {text}")

    def _array(self, each: Field, value: str, is_nullable: bool) -> None:
        source = self.source
        rows, count = source.local("rows"), source.local("n")
        source.line(f"{rows} = {value}")
        if is_nullable:
            source.line(f"{count} = {self._null} if {rows} is None else len({rows}){self._one}")
        else:
            source.line(f"{count} = len({rows}){self._one}")
        self._prefix("i", count)
        if is_nullable:
            with source.block(f"if {rows}:"):
                self._elements(each, rows)
        else:
            self._elements(each, rows)

    def _elements(self, each: Field, rows: str) -> None:
        source, kind = self.source, each.kind
        if kind.code and kind is not types.uuid:
            source.line(f'{self._out} += pack(f">{{len({rows})}}{kind.code}", *{rows})')
            return
        element = source.local("o")
        with source.block(f"for {element} in {rows}:"), source.inside("[]"):
            if each.nested:
                self._struct(each.nested, element)
            else:
                self._primitive(kind, element, False)
            self._flush()

"""Messages as classes: what a subclass of `Struct` declares is all that the compiler knows.

    class ListOffsetsRequest(Request, api=ApiKey.LIST_OFFSETS, versions="1-11", flexible="6+"):
        replica_id: int = field(int32, default=-1)
        topics: list[ListOffsetsTopic] = field()
        timeout_ms: int = field(int32, versions="10+", default=0, ignorable=True)

A field's Python type is its annotation; its kind follows from that, but for the integers and
records, where it is named. Versions are written as Kafka writes them. A field without a default
must be given to the constructor, which takes keywords only; a field that is not in a version
reads as its default there, and holding anything else is an error when that version is sent,
unless the field is `ignorable`.

A tagged struct is None while it is absent: Kafka has a struct of defaults there, which on the
wire is the same, and an absent one costs nothing here.

Instances have slots, no dictionary; they compare by value. Nothing is checked at construction:
the codec does that once, when the message is sent.
Rejected: dataclasses (a slot class is made twice, 5x the import time), a generator of code.
"""

from types import NoneType, UnionType
from typing import Any, ClassVar, Final, dataclass_transform, get_args, get_origin

from ottla.base.errors import check
from ottla.base.ids import Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.types import NEVER, Kind, binary, boolean, span, string, struct, uuid

_ABSENT: Final = object()
_KIND_OF: Final[dict[Any, Kind]] = {bool: boolean, str: string, bytes: binary, Uuid: uuid}


class Field:
    """One field of a struct, as its class declares it."""

    __slots__ = (
        "default",
        "factory",
        "ignorable",
        "is_array",
        "kind",
        "name",
        "nested",
        "nullable",
        "tag",
        "versions",
    )
    name: str
    kind: Kind
    is_array: bool

    def __init__(self, kind: Kind | None, tag: int | None, ignorable: bool) -> None:
        if kind is not None:
            self.kind = kind
        self.tag = tag
        self.ignorable = ignorable
        self.versions = self.nullable = NEVER
        self.default: object = _ABSENT
        self.factory: Any = None

    def bind(self, name: str, annotation: Any) -> None:
        """Learn the field's name and, from its annotation, its shape."""
        self.name = name
        if isinstance(annotation, UnionType) and NoneType in get_args(annotation):
            inner = [part for part in get_args(annotation) if part is not NoneType]
            annotation = inner[0] if len(inner) == 1 else None
        self.is_array = get_origin(annotation) is list
        if self.is_array:
            annotation = get_args(annotation)[0]
        self.nested: Any = annotation if isinstance(annotation, StructMeta) else None
        if not hasattr(self, "kind"):
            self.kind = struct if self.nested else _KIND_OF[annotation]

    @property
    def is_required(self) -> bool:
        return self.default is _ABSENT and self.factory is None

    def missing(self) -> object:
        """What the field holds after decoding a version that does not have it."""
        if self.factory is not None:
            return self.factory()
        if self.default is not _ABSENT:
            return self.default
        return [] if self.is_array else self.kind.zero


def field(
    kind: Kind | None = None,
    *,
    versions: str = "0+",
    nullable: str = "none",
    tag: int | None = None,
    ignorable: bool = False,
    default: Any = _ABSENT,
    default_factory: Any = None,
) -> Any:
    """Declare a field. With a `tag` it is tagged in all of its versions."""
    made = Field(kind, tag, ignorable)
    made.versions, made.nullable = span(versions), span(nullable)
    made.default, made.factory = default, default_factory
    return made


def _constructor(fields: tuple[Field, ...]) -> Any:
    """`__init__` with keywords, as a dataclass would have it."""
    defaults: dict[str, object] = {"ABSENT": _ABSENT}
    parameters, lines = [], ["    pass"]
    for each in fields:
        name, value = each.name, each.name
        if each.is_required:
            parameters.append(name)
        elif each.factory is not None:
            defaults[f"make_{name}"] = each.factory
            parameters.append(f"{name}=ABSENT")
            value = f"make_{name}() if {name} is ABSENT else {name}"
        else:
            defaults[f"default_{name}"] = each.default
            parameters.append(f"{name}=default_{name}")
        lines.append(f"    self.{name} = {value}")
    star = ", *, " if parameters else ""
    head = f"def __init__(self{star}{', '.join(parameters)}):"
    exec("\n".join([head, *lines]), defaults)
    return defaults["__init__"]


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class StructMeta(type):
    """Turns the declared fields of a class into slots and a constructor."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        api: ApiKey | None = None,
        versions: str = "0+",
        flexible: str = "none",
    ) -> "StructMeta":
        declared = {key: each for key, each in namespace.items() if isinstance(each, Field)}
        body = {key: value for key, value in namespace.items() if key not in declared}
        body["__slots__"] = tuple(declared)
        cls: Any = super().__new__(mcs, name, bases, body)
        for key, each in declared.items():
            each.bind(key, cls.__annotations__[key])
        cls.__fields__ = tuple(declared.values())
        cls.__api__ = api
        cls.__versions__ = span(versions)
        cls.__flexible__ = span(flexible)
        check(cls.__versions__.stop > 0, f"{name} has no versions")
        if declared:
            cls.__init__ = _constructor(cls.__fields__)
        return cls  # type: ignore[no-any-return]


class Struct(metaclass=StructMeta):
    """A group of fields: nested in a message, or encoded on its own (records of a log)."""

    __fields__: ClassVar[tuple[Field, ...]]
    __api__: ClassVar[ApiKey | None]
    __versions__: ClassVar[range]
    __flexible__: ClassVar[range]

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in self.__fields__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self.__fields__)
        return f"{self.__class__.__name__}({values})"


class Request(Struct):
    """What a client sends."""


class Response(Struct):
    """What a broker answers."""

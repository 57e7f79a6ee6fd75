"""docs/configuration.md, written from the option tables: python -m tests.tools.config_page.

A test compares the file with what this writes, so that it cannot fall behind the tables.
"""

from pathlib import Path
from typing import Final

from ottla.base.foreign_options import NO_EFFECT, REFUSED
from ottla.base.options import BROKER_OPTIONS, TOPIC_OPTIONS, Effect, Option

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"

INTRODUCTION: Final = """\
# Configuration

<!-- Written by `python -m tests.tools.config_page`; a test keeps it in step with the tables. -->

Keys, types, defaults and bounds are Kafka's. `ottla serve` takes them from

- `--config FILE`: TOML (a name that ends in `.toml`; tables join with dots, so `[log.retention]`
  with `hours = 24` is `log.retention.hours`), or a Kafka `server.properties`;
- `--listen HOST:PORT` and `--data DIR`, for `listeners` and `log.dirs`;
- `--set KEY=VALUE`, which wins over the others.

A key or value that cannot be taken is one line on standard error and exit code 2; nothing is
touched then. A topic that does not set an option takes the broker's, named below its default.

The column *effect*: blank means that the option works; **later** that it is accepted and described,
for a feature that is yet to come; **none** that it is accepted and does nothing in Ottla.
"""

EFFECTS: Final = {Effect.WORKS: "", Effect.LATER: "later", Effect.NONE: "none"}


def page() -> str:
    parts = [
        INTRODUCTION,
        "## Topics\n\n" + topic_table(),
        "## Brokers\n\nThe column *altered*: whether AlterConfigs can set the option of one broker "
        "or of all of them while they run.\n\n" + broker_table(),
        "## Kafka's keys without an effect\n\nA configuration that holds them starts; each is "
        "noted in the log. A name that ends in a dot stands for all that begin with it.\n\n"
        + rows_of(("key", "why"), [(f"`{key}`", why) for key, why in NO_EFFECT.items()]),
        "## Kafka's keys that are refused\n\nLeaving them out in silence would make the broker "
        "less safe, or other, than the configuration says.\n\n" + refused_table(),
    ]
    return "\n".join(parts)


def topic_table() -> str:
    rows = []
    for name, option in TOPIC_OPTIONS.items():
        brokers = ", ".join(f"`{synonym.name}`" for synonym in option.synonyms)
        default = f"{default_of(option)}<br>{brokers}" if brokers else default_of(option)
        effect = EFFECTS[option.effect]
        rows.append((f"`{name}`", type_of(option), default, effect, option.documentation))
    return rows_of(("option", "type", "default", "effect", "what it does"), rows)


def broker_table() -> str:
    rows = []
    for name, option in BROKER_OPTIONS.items():
        effect, altered = EFFECTS[option.effect], option.update.value
        about = (default_of(option), altered, effect, option.documentation)
        rows.append((f"`{name}`", type_of(option), *about))
    return rows_of(("option", "type", "default", "altered", "effect", "what it does"), rows)


def refused_table() -> str:
    rows = []
    for key, (why, harmless) in REFUSED.items():
        taken = "" if harmless is None else f"`{harmless}`" if harmless else "empty"
        rows.append((f"`{key}`", taken, why))
    return rows_of(("key", "the value that is taken", "why"), rows)


def type_of(option: Option) -> str:
    return option.type.name.lower()


def default_of(option: Option) -> str:
    text = option.text_of(option.default)
    return "not set" if text is None else f"`{text}`" if text else "empty"


def rows_of(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())

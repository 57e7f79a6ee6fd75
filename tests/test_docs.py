"""The documents: the configuration page is the tables' own, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.tools import config_page

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def test_configuration_page_is_that_of_the_tables() -> None:
    written = config_page.PAGE.read_text()
    assert written == config_page.page(), "run: .venv/bin/python -m tests.tools.config_page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target for target in LINK.findall(CODE.sub("", page.read_text())) if is_broken(page, target)
    ]
    assert not broken


def is_broken(page: Path, target: str) -> bool:
    """A link within the project to a file, or to a heading, that is not there."""
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    found = page.parent / name if name else page
    if not found.exists():
        return True
    return bool(anchor) and anchor not in anchors(found)


def anchors(page: Path) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading, here\n")
    assert is_broken(page, "nowhere.md")
    assert is_broken(page, "#two")
    assert not is_broken(page, "#one-heading-here")
    assert not is_broken(page, "https://example.org/x")

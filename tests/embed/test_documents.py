"""What the documents tell to type, typed: each page's Python and kcat lines, against a broker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TESTING = ROOT / "docs" / "testing.md"  # whose Python is tests, and runs in tests/testing
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
KCAT = re.compile(r"^    (.*\bkcat .*)$", re.MULTILINE)
ADDRESS = "127.0.0.1:9092"
WAIT_S = 60

pytestmark = [pytest.mark.clients]


def of_pages(pattern, pages=PAGES):
    return [
        pytest.param(found, id=f"{page.stem}-{number}")
        for page in pages
        for number, found in enumerate(pattern.findall(page.read_text()))
    ]


def ran(broker, command):
    done = subprocess.run(
        [each.replace(ADDRESS, broker.bootstrap_servers) for each in command],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("source", of_pages(PYTHON, [p for p in PAGES if p != TESTING]))
def test_python(source, broker):
    ran(broker, [sys.executable, "-c", source])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_kcat(page, broker):
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed")
    for line in KCAT.findall(page.read_text()):
        said = ran(broker, ["sh", "-c", line])
        assert "greetings" in said or "hello" in said or " -P " in line


def test_there_is_something_to_type():
    assert len(of_pages(PYTHON)) >= 5
    assert sum(len(KCAT.findall(page.read_text())) for page in PAGES) >= 5

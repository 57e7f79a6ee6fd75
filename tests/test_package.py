"""A wheel builds with a C compiler and without one, and carries the types and the kernel.

Built off a copy, so that no `build/` of the checkout gets into it, and without build isolation,
so that nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def can_compile() -> bool:
    has_headers = (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()
    return has_headers and shutil.which(sysconfig.get_config_var("CC").split()[0]) is not None


@pytest.mark.parametrize("compiler", [None, "/bin/false"])
def test_wheel(tmp_path: Path, compiler: str | None) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    shutil.copytree(ROOT / "src", source / "src", ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, **({"CC": compiler} if compiler else {})}
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "-w", str(tmp_path), str(source)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT / "src")) for path in ROOT.glob("src/ottla/**/*.py")}
    assert modules <= names
    assert "ottla/py.typed" in names
    kernel = [name for name in names if name.startswith("ottla/records/_kernel")]
    if compiler:
        assert kernel == []
    elif can_compile():
        assert kernel == ["ottla/records/_kernel.abi3.so"]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "bench"))]

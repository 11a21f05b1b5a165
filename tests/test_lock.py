"""`pylock.toml` has the versions of `constraints.txt`, from PyPI alone; `make lock` writes it."""

import re
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
LOCKED: list[dict[str, Any]] = tomllib.loads((REPOSITORY / "pylock.toml").read_text())["packages"]


def canonical(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_versions_are_those_of_the_constraints() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {
        canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    locked = {canonical(package["name"]): package["version"] for package in LOCKED}
    # What no test machine installs has no pin: packages of Windows and of browsers.
    elsewhere = {
        canonical(each["name"])
        for each in LOCKED
        if re.search("win32|== 'emscripten'", each.get("marker", ""))
    }
    assert {name for name in locked if locked[name] != pinned.get(name)} <= elsewhere
    assert len(locked) > 30


def test_all_that_the_service_requires_is_there() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {
        canonical(re.split(r"[^\w.-]", line)[0])
        for line in (*project["dependencies"], *extras["serve"], *extras["mcp"])
    }
    assert needed <= {canonical(package["name"]) for package in LOCKED}
    assert "torch" not in {package["name"] for package in LOCKED}


def test_all_files_are_of_pypi_and_have_a_hash() -> None:
    files = [
        file for package in LOCKED for file in [*package.get("wheels", []), package.get("sdist")] if file
    ]
    assert len(files) > len(LOCKED)
    for file in files:
        assert file["url"].startswith("https://files.pythonhosted.org/packages/")
        assert re.fullmatch("[0-9a-f]{64}", file["hashes"]["sha256"])
    assert not any("index" in package for package in LOCKED)

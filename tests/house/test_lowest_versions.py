"""`.ci/lowest.txt` holds the lowest version of each direct dependency that `pyproject.toml` allows."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
TOOLS = {"ruff", "mypy", "types-pyyaml", "playwright"}  # of one release each in CI's main environment


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def bounds() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for each in project["optional-dependencies"].values() for line in each)]
    needed = [Requirement(line) for line in lines]
    return {normal(each.name): each for each in needed if each.name != "foveal"}


def test_every_direct_dependency_has_its_lowest_version_in_the_constraints():
    lines = (ROOT / ".ci/lowest.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {normal(each.name): next(iter(each.specifier)).version for each in pinned}
    needed = bounds()
    assert set(versions) == set(needed) - TOOLS
    for name, version in versions.items():
        (bound,) = needed[name].specifier
        assert bound.operator == ">=", f"{name}: no lowest version in pyproject.toml"
        assert Version(version) == Version(bound.version), name

"""The shape of the house: who imports whom, the public names, the light import, the map."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foveal

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "foveal"
LEVELS = [  # a file imports only from rows above its own; a folder is one room
    ["naming", "settings", "functionals", "meanings", "switching", "gathering", "machine", "telling", "templates"],
    ["geometry", "pooling"],
    ["warps"],
    ["record", "shapes", "standing", "inputs", "data"],
    ["tokens"],
    ["mechanisms", "places", "tracing", "drawing", "metrics", "costs", "foreign", "tally"],
    ["hosts", "showing", "findings", "curves"],
    ["fast"],
    ["surgery", "hooks"],
    ["weights", "recording", "replacing", "grad_cam"],
    ["networks", "auditing", "locating", "deployment"],
    ["checkpoint", "pruning", "scoring", "analysing"],
    ["training", "opening"],
    ["looking", "benchmark"],
    ["browsing", "comparison"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
PUBLIC = {
    "Record", "Tap", "attach", "attachments", "audit", "class_activation", "compare", "create_model", "deploy",
    "detach", "draw", "excitation_by_class", "export", "list_mechanisms", "list_models", "load_data", "load_weights",
    "plain", "pose_before_and_after", "prune_constant", "replace", "score", "selection_by_size", "train", "watch",
    "write_report",
}  # fmt: skip


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a file imports, in whatever spelling."""
    package = ["foveal", *path.relative_to(PACKAGE).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] == "foveal"]
    return {part[1] for part in parts if len(part) > 1 and part[1] in LEVEL}


def arrows() -> list[tuple[str, str, str]]:
    """File, its room, and each room of ours that it imports."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found += [(path.name, room, imported) for imported in sorted(rooms_imported(path))]
    return found


def test_every_file_has_a_level():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize(("file", "room", "imported"), [arrow for arrow in arrows() if arrow[1] != "__init__"])
def test_arrows_point_down(file, room, imported):
    assert room == imported or LEVEL[imported] < LEVEL[room], f"{file} imports {imported}"


def test_mechanisms_never_import_each_other():
    for path in (PACKAGE / "mechanisms").glob("*.py"):
        if path.name != "__init__.py":
            imported = [
                node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
            ]
            assert not [
                name for name in imported if name.startswith("foveal.mechanisms") and not name.endswith("strength")
            ]


def test_the_public_names_are_these():
    assert set(foveal.__all__) == PUBLIC | {"__version__"}
    assert set(foveal.HOMES) == PUBLIC


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603


def test_public_names_survive_the_import_of_every_file():
    """No file bears a verb's name: importing it would put the module in the verb's place."""
    code = """
import importlib, pkgutil, foveal
for turn in range(2):
    for name in foveal.__all__:
        assert name == "__version__" or callable(getattr(foveal, name)), name
    for module in pkgutil.walk_packages(foveal.__path__, "foveal."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
    done = fresh(code)
    assert done.returncode == 0, done.stderr


def test_import_and_help_are_light():
    heavy = "torch", "timm", "torchvision", "matplotlib", "accelerate", "numpy"
    code = f"""
import sys
sys.argv = ["foveal", "--help"]
from foveal.cli import main
try:
    main()
finally:
    print("HEAVY", [name for name in {heavy} if name in sys.modules])
"""
    done = fresh(code)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr
    assert "compare" in done.stdout


def test_no_mistake_of_a_user_is_met_by_an_assert():
    """No `assert` for a user's mistake: it vanishes under python -O."""
    for path in PACKAGE.rglob("*.py"):
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)], path


def test_the_readmes_map_names_every_file():
    text = (ROOT / "README.md").read_text()
    rooms = [
        path.name + "/" if path.is_dir() else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")
    ]
    missing = [room for room in rooms if room not in text and not room.startswith("__")]
    assert not missing

"""The shape of the house: rooms and their imports, sizes of files and functions, public names, the light import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import foveal

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "foveal"
ROWS = [  # a file imports only from rows below its own, and from its own room
    ["core", "ops"],
    ["mechanisms", "profiling"],
    ["inspection", "data"],
    ["surgery", "evaluation"],
    ["networks", "deployment"],
    ["training"],
    ["comparison"],
    ["reports"],
    ["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ROWS) for room in rooms}
PUBLIC = {
    "CompareConfig", "Record", "RunConfig", "Tap", "TrainConfig", "attach", "attachments", "audit", "class_activation",
    "compare", "create_model", "deploy", "detach", "draw", "excitation_by_class", "export", "list_mechanisms",
    "list_models", "load_data", "load_model", "load_weights", "no_fast_path", "pose_before_and_after", "prune_constant",
    "replace", "reproduce", "score", "selection_by_size", "train", "watch", "write_report",
}  # fmt: skip
SYMBOLS = {"RAM.__init__", "SelectiveKernel.__init__"}  # more than seven arguments: symbols of their papers


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imported(name: str) -> set[str]:
    """Files of ours that a file imports, in whatever spelling, at its top or within a function."""
    package = name.split(".") if FILES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return (found & set(FILES)) - {name}


def room_of(name: str) -> str:
    return f"{name}.".split(".")[1]


def test_root_holds_fourteen_rooms():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed", *LEVEL}
    assert len(LEVEL) == 14


def test_imports_point_down():
    """A file imports from rooms below its own and from its own room; offenders are listed by room."""
    offenders: dict[str, list[str]] = {}
    for name in FILES:
        room = room_of(name)
        for other in imported(name) if room in LEVEL else ():
            down = room_of(other) == room or LEVEL.get(room_of(other), len(ROWS)) < LEVEL[room]
            if not down:
                offenders.setdefault(room, []).append(f"{name} imports {other}")
    assert not offenders


def test_imports_have_no_cycle():
    left = {name: imported(name) for name in FILES}
    while free := {name for name, others in left.items() if not others}:
        left = {name: others - free for name, others in left.items() if name not in free}
    assert not left, f"in or above a cycle: {sorted(left)}"


def test_mechanisms_never_import_each_other():
    papers = {name for name in FILES if room_of(name) == "mechanisms"} - {
        "foveal.mechanisms", "foveal.mechanisms.registry", "foveal.mechanisms.catalog",
        "foveal.mechanisms.zero_init_gate",
    }  # fmt: skip
    assert not {name: others for name in papers if (others := imported(name) & papers)}


def functions() -> Iterator[tuple[str, ast.FunctionDef, ast.ClassDef | None]]:
    """Name, definition and class of every function and method."""
    for module, tree in TREES.items():
        owner = {id(child): node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                within = owner.get(id(node))
                yield f"{module}.{within.name + '.' if within else ''}{node.name}", node, within


def body_length(node: ast.FunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
    return node.end_lineno - first.lineno + 1


def is_autograd(owner: ast.ClassDef | None) -> bool:
    return owner is not None and any(ast.unparse(base).endswith("Function") for base in owner.bases)


def test_files_have_at_most_300_lines():
    lengths = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name: length for name, length in lengths.items() if length > 300}


def test_functions_have_at_most_40_lines():
    assert not {name: length for name, node, _ in functions() if (length := body_length(node)) > 40}


def test_functions_have_at_most_7_arguments():
    offenders = {}
    for name, node, owner in functions():
        count = len([each for each in node.args.args + node.args.kwonlyargs if each.arg not in ("self", "cls")])
        if count > 7 and not is_autograd(owner) and not name.endswith(tuple(SYMBOLS)):
            offenders[name] = count
    assert not offenders


def test_no_mistake_of_a_user_is_met_by_an_assert():
    """An `assert` vanishes under python -O."""
    nodes = chain.from_iterable(((name, node) for node in ast.walk(tree)) for name, tree in TREES.items())
    assert not [name for name, node in nodes if isinstance(node, ast.Assert)]


def test_package_inits_hold_a_docstring_alone():
    inits = [name for name, path in FILES.items() if path.name == "__init__.py" and name != "foveal"]
    assert not [name for name in inits if len(TREES[name].body) != 1 or ast.get_docstring(TREES[name]) is None]


def test_public_names():
    assert set(foveal.__all__) == PUBLIC
    assert dir(foveal) == sorted(PUBLIC)


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603


@pytest.mark.slow
def test_public_names_survive_the_import_of_every_file():
    """No module at the root bears a verb's name: importing it would put the module in the verb's place."""
    code = """
import importlib, pkgutil, foveal
for turn in range(2):
    for name in foveal.__all__:
        assert callable(getattr(foveal, name)), name
    for module in pkgutil.walk_packages(foveal.__path__, "foveal."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
    done = fresh(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--models"]])
def test_help_and_lists_import_no_torch(arguments):
    heavy = "torch", "timm", "torchvision", "matplotlib", "accelerate", "numpy"
    code = f"""
import sys
sys.argv = ["foveal", *{arguments}]
from foveal.cli.main import main
try:
    main()
finally:
    print("HEAVY", [name for name in {heavy} if name in sys.modules])
"""
    done = fresh(code)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr
    assert {"--help": "compare", "list": "squeeze_excite"}.get(arguments[-1], "sknet50") in done.stdout


@pytest.mark.slow
def test_mypy_finds_a_typo_in_a_public_name(tmp_path):
    """The stub lists the public names, so that `mypy --strict` fails at one that is not there."""
    (tmp_path / "script.py").write_text("import foveal\n\nfoveal.attach\nfoveal.atach\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=skip", "--cache-dir", str(tmp_path)]
    files = [PACKAGE / "__init__.pyi", tmp_path / "script.py"]  # alone: whatever else they import takes half a minute
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    assert done.returncode == 1
    assert "script.py:4" in done.stdout
    assert '"atach"' in done.stdout
    assert "script.py:3" not in done.stdout


def test_readme_names_every_room():
    text = (ROOT / "README.md").read_text()
    assert not [room for room in LEVEL if f"`{room}/`" not in text]

"""Run the doctests of the lower rooms: every example must be pasteable and print what it shows."""

import doctest
import importlib
import pkgutil
from io import StringIO

import pytest
import torch

import foveal
from foveal.mechanisms.registry import MECHANISMS

ROOMS = ("foveal.ops", "foveal.mechanisms", "foveal.profiling", "foveal.surgery", "foveal.inspection.drawing")
FILES = (
    "foveal.core.names",
    "foveal.core.trial_pass",
    *(
        f"foveal.inspection.{name}"
        for name in (
            "replace",
            "adapters",
            "third_party",
            "functional_hooks",
            "tap_points",
            "record_statistics",
            "rollout",
        )
    ),
)
PUBLIC = ("attach", "detach", "attachments", "draw", "replace", "list_mechanisms", "no_fast_path")


def module_names() -> list[str]:
    found = list(FILES)
    for room in ROOMS:
        paths = importlib.import_module(room).__path__
        found += [room, *(module.name for module in pkgutil.walk_packages(paths, f"{room}."))]
    return found


def failures(test: doctest.DocTest) -> str:
    """Run one docstring's examples in an empty namespace; return the report of those that fail."""
    torch.manual_seed(0)
    report = StringIO()
    doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    return report.getvalue()


@pytest.mark.parametrize("name", module_names())
def test_examples_print_what_they_show(name):
    module = importlib.import_module(name)
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, globs={})
    assert "".join(map(failures, tests)) == ""


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_imports_foveal(name):
    examples = doctest.DocTestParser().get_examples(getattr(foveal, name).__doc__)
    assert any(example.source.startswith("import foveal") for example in examples)
    assert any(example.want for example in examples)


def test_every_mechanism_has_an_example():
    missing = [name for name, cls in MECHANISMS.items() if not doctest.DocTestParser().get_examples(cls.__doc__)]
    assert missing == []


def test_a_wrong_example_fails():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert "Expected:\n    3" in failures(wrong)

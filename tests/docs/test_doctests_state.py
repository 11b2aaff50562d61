"""The examples in the docstrings of `watch`, `Record`, `Tap` and `create_model` run as they are written."""

import doctest
import importlib

import pytest

import foveal


@pytest.mark.parametrize("name", ["watch", "Record", "Tap", "create_model"])
def test_the_example_in_a_docstring_runs(name):
    documented = getattr(foveal, name)
    module = importlib.import_module(documented.__module__)
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(documented, name, module, {}) if test.examples]
    assert tests, f"{name} has no example"
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert all(result.failed == 0 for result in results)
    assert all(f"{part}:" in documented.__doc__ for part in ("Args", "Example"))

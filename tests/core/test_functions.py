"""Names of functions: recognized, imported where they are given, refused in one line."""

import sys
from functools import partial

import pytest

from foveal.core.functions import import_function, import_functions, name_of, named_functions, names_function


@pytest.mark.parametrize("text", ["mine:net", "package.module:net", "__main__:net", "mine:Net.small"])
def test_names_function_knows_the_form(text):
    assert names_function(text)


@pytest.mark.parametrize(
    "text",
    ["small_cnn", "small_cnn:width=2", "timm:resnet18", "folder:photos", "folder:/a/b", "digits/rts", "mine:", ":net",
     "mine:net+se", "mine:1net", "C:\\photos", "a b:net", "mine:net\n"],
)  # fmt: skip
def test_names_function_leaves_other_names(text):
    assert not names_function(text)


def test_name_of_is_where_a_function_is_defined():
    def inner():
        """A function of a function."""

    assert name_of(inner) == f"{__name__}:inner"
    assert name_of(partial) == "functools:partial"


@pytest.mark.parametrize("nameless", [lambda: None, partial(print), 3])
def test_name_of_refuses_what_has_no_name(nameless):
    with pytest.raises(TypeError, match="a function with a name"):
        name_of(nameless)


def test_named_functions_refuses_one_name_for_two():
    def make():
        def net():
            """Another one at each call."""

        return net

    with pytest.raises(ValueError, match=r"two functions have the name '.*:net'"):
        named_functions([make(), make()])


def test_import_function_finds_modules_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "of_the_folder.py").write_text("class Net:\n    @staticmethod\n    def small(): return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert import_function("of_the_folder:Net.small")() == 7


def test_import_function_refuses_what_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "fails_at_import.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "is_there.py").write_text("three = 3\nnameless = lambda: 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, message in {
        "no_such_module:net": "there is no module 'no_such_module' here",
        "math.no:net": "fails|no module 'math.no'",
        "fails_at_import:net": "its module fails, ModuleNotFoundError: No module named 'no_such_module_at_all'",
        "math:squrt": "did you mean 'sqrt'",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            import_function(name)
        assert "\n" not in str(caught.value)
    for name in ("is_there:three", "is_there:nameless"):
        with pytest.raises(TypeError, match=f"function '{name}': .* a function with a name"):
            import_function(name)


def test_import_functions_prefers_those_at_hand():
    assert import_functions(["no_such:net", "digits", "math:sqrt"], {"no_such:net": abs}) == {
        "no_such:net": abs, "math:sqrt": import_function("math:sqrt"),
    }  # fmt: skip

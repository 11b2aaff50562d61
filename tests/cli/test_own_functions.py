"""A function that a file alone names is never imported by the command."""

import sys

import pytest

SETTINGS = {"model": "no_such:net+se", "data": "no_such:images"}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("arguments", [("--config", "given/config.yaml"), ("--resume", "--output", "given")])
def test_train_command_refuses_a_function_that_a_file_alone_names(run_command, tmp_path, name, arguments):
    (tmp_path / "given").mkdir()
    (tmp_path / "given/config.yaml").write_text(f"{name}: {SETTINGS[name]}\n")
    code, out, err = run_command("train", *arguments)
    assert (code, out) == (2, "")
    assert err == (
        f"foveal: given/config.yaml: {name}={SETTINGS[name]!r} names a function, which only you can name: "
        f"add --{name} {SETTINGS[name]}\n"
    )


def test_train_command_imports_a_function_that_the_command_names(run_command, tmp_path, monkeypatch):
    (tmp_path / "settings.yaml").write_text("data: no_such:images\nmodel: timm:resnet18\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for option in (("--data", "no_such:images"), ("--data=no_such:images",)):
        code, _, err = run_command("train", "--config", "settings.yaml", *option, "--output", "run")
        assert code == 2
        assert err.startswith("foveal: function 'no_such:images': there is no module 'no_such' here")


def test_compare_command_refuses_a_backbone_that_a_file_alone_names(run_command, tmp_path):
    (tmp_path / "settings.yaml").write_text("backbone: no_such:net\n")
    code, _, err = run_command("compare", "none", "--config", "settings.yaml")
    assert code == 2
    assert "backbone='no_such:net' names a function, which only you can name: add --backbone no_such:net" in err

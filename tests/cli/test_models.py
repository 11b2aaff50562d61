"""The commands `audit`, `score` and `export`."""

import json
import sys

import numpy as np
import pytest

from foveal.cli.main import main
from foveal.data import digits
from foveal.training.checkpoint import load_checkpoint, save_checkpoint

FAST = ("--epochs", 1, "--batch-size", 500)


def test_audit_command_exits_with_1_on_faults(run_command, tmp_path):
    code, out, _ = run_command("audit", "small_cnn+stn", "digits", "--output", "told.json")  # at birth, which is none
    assert code == 0
    assert "at birth" in out
    assert out.splitlines()[-2:] == ["0 faults, 1 place, 500 images", "told.json"]
    assert json.loads((tmp_path / "told.json").read_text())["findings"][0]["type"] == "at birth"

    run_command("train", "--model", "small_cnn+se", *FAST, "--output", "run")
    network, checkpoint = load_checkpoint(tmp_path / "run")
    for name, weight in network.named_parameters():
        if name.endswith("fc2.bias"):
            weight.data.fill_(50.0)
    facts = {key: checkpoint.facts[key] for key in ("classes", "preprocessing", "groups")}
    save_checkpoint(tmp_path / "run/best.safetensors", network, facts)
    code, out, _ = run_command("audit", "run", "digits/rts")
    assert code == 1
    assert "! saturated open: 100.0% of the weights" in out
    assert out.splitlines()[-2:] == ["3 faults, 3 places, 500 images", "run/audit.json"]
    assert len(json.loads((tmp_path / "run/audit.json").read_text())["findings"]) == 3


@pytest.mark.slow
@pytest.mark.exhaustive
def test_score_command_separates_a_trained_transformer_from_chance(run_command, tmp_path, monkeypatch):
    parts = digits.digits(0)
    few = {**parts, "test": digits.take(parts["test"].images, parts["test"].labels, np.arange(0, 1500, 12))}
    monkeypatch.setattr(digits, "digits", lambda seed: few)  # 125 digits, each drawn four times
    run_command("train", "--model", "small_cnn+stn:size=28", "--epochs", "6", "--output", "run")
    code, out, _ = run_command("score", "run", "digits/rts")
    assert code == 0
    located = "stem.0.stn: pointing", "stem.0.stn: energy", "stem.0.stn: iou"
    assert [line.endswith("beats both nulls") for line in out.splitlines() if line.startswith(located)] == [True] * 3
    scored = json.loads((tmp_path / "run/score.json").read_text())
    assert scored["images"] == 500
    assert {each["replacement"] for each in scored["ablations"] if each["accuracy_drop"]["low"] > 0} == {
        "mean",
        "another",
        "none",
    }
    _, out, _ = run_command("score", "small_cnn+stn:size=28", "digits/rts")  # untrained
    lines = [line for line in out.splitlines() if line.startswith(located)]
    assert [line.endswith("not better than chance") for line in lines] == [True] * 3
    code, out, _ = run_command("score", "small_cnn", "digits/rts")  # without attention
    assert (code, out.splitlines()[-1]) == (0, "score.json")
    left_out = "left out: SmallCNN: no attention was found, by name or in a trial pass; foveal.attach adds one"
    assert left_out in out.splitlines()


def test_export_command_writes_the_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "model.pt2"
    monkeypatch.setattr(sys, "argv", ["foveal", "export", "small_cnn+se", "--output", str(path), "--attention"])
    with pytest.raises(SystemExit, match="0"):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert "any batch, any size" in lines[0]
    assert lines[-1] == str(path)
    assert path.stat().st_size > 1000

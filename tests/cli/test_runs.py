"""The commands `train`, `look` and `compare`, end to end."""

import pytest
from helpers import write_halves
from PIL import Image

FAST = ("--epochs", 1, "--batch-size", 500)


@pytest.mark.slow
def test_train_command_then_look_command_on_data_and_files(run_command, tmp_path):
    code, out, _ = run_command("train", "--model", "small_cnn+stn", *FAST, "--output", "run")
    assert code == 0
    assert "epoch 1: loss" in out
    assert out.splitlines()[-1] == "run"

    code, out, _ = run_command("look", "run", "digits/rts", "--output", "seen.png", "--most", 1)
    assert (code, out) == (0, "seen.png\nseen.html\n")
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.size[0] > 500

    Image.new("RGB", (60, 50), "white").save(tmp_path / "mine.jpg")
    (tmp_path / "text.png").write_text("no image")
    code, out, _ = run_command("look", "run", "mine.jpg", "text.png", "--output", "files.png")
    assert code == 0
    assert out == "left out text.png: not an image by its content\nfiles.png\nfiles.html\n"
    assert "<dt>text.png</dt><dd>not an image by its content</dd>" in (tmp_path / "files.html").read_text()
    code, _, err = run_command("look", "run", "text.png", "nowhere.png")
    assert code == 2
    assert "could be read; 'text.png': not an image by its content; 'nowhere.png': no such file\n" in err

    code, _, err = run_command("train", "--model", "small_cnn+stn", *FAST, "--output", "run")
    assert code == 2
    assert "output='run' holds a finished run; read it with --resume" in err
    code, out, _ = run_command("train", "--output", "run", "--resume")
    assert code == 0
    assert out.splitlines()[-1] == "run"

    whole = (tmp_path / "run/best.safetensors").read_bytes()
    (tmp_path / "run/best.safetensors").write_bytes(whole[:1000])
    code, _, err = run_command("look", "run", "digits")
    assert code == 2
    assert "cannot be read, truncated" in err


@pytest.mark.slow
def test_compare_command_prints_a_table_and_writes_a_page(run_command, tmp_path, jobs_here):
    data = f"folder:{write_halves(tmp_path / 'halves', 60)}"
    options = ("--data", data, "--image-size", 32, "--batch-size", 32, "--seeds", 1, "--output", "cmp")
    code, out, err = run_command("compare", "none", "stn", "sk:groups=8", "--epochs", 1, *options)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[-1] == "cmp/report.html"
    assert any(line.strip().startswith("sk:groups=8") for line in lines)
    page = (tmp_path / "cmp/report.html").read_text()
    assert page.count("<img alt=") == 2  # a picture for each mechanism; plots are drawn in the page itself
    assert "http" not in page.replace("http-equiv", "")
    assert {path.name for path in (tmp_path / "cmp").iterdir()} == {
        "comparison.json", "results.json", "results.csv", "results.md", "costs.json", "report.html",
        "none-0", "stn-0", "sk-groups=8-0", "stn-0.png", "sk-groups=8-0.png", ".foveal", ".foveal.lock",
    }  # fmt: skip

    before = (tmp_path / "cmp/none-0/metrics.jsonl").read_text()
    code, out, _ = run_command("compare", "none", "se", "--epochs", 1, *options)  # one more contender
    assert code == 0
    assert (tmp_path / "cmp/none-0/metrics.jsonl").read_text() == before
    code, _, err = run_command("compare", "none", "--epochs", 2, *options)
    assert code == 2
    assert "contains a comparison with another" in err

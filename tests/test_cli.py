"""The command as somebody types it: what it prints, and the one line that a mistake gets."""

import json
import sys

import pytest
import yaml
from PIL import Image

from foveal.cli import main as cli
from foveal.training.checkpoint import load_checkpoint, save_checkpoint

pytest.importorskip("mlxtend")


@pytest.fixture
def foveal(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveal", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


FAST = ("--epochs", 1, "--batch-size", 500)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--model"), "Did you mean --models?"),
        (("trian",), "trian"),
        (("train", "--epocs", 3), "Unknown option: --epocs. Did you mean --epochs?"),
        (("train", "--epochs", "three"), "three"),
        (("train", "--epochs", 0), "epochs=0"),
        (("train", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("train", "--model", "smal_cnn", *FAST), "unknown network 'smal_cnn'; did you mean 'small_cnn'?"),
        (("train", "--model", "small_cnn+see", *FAST), "unknown mechanism 'see'; did you mean 'se'?"),
        (("train", "--data", "digitz", *FAST), "unknown data 'digitz'; did you mean 'digits'?"),
        (("train", "--data", "folder:nowhere", *FAST), "'folder:nowhere': there is no such folder"),
        (("train", "--data", "folder:.", *FAST), "no images in it"),
        (("compare", "none", "none"), "contender 'none' is named twice"),
        (("compare", "none", "--seeds", 0), "seeds=0"),
        (("compare", "none", "sk:groups=7"), "groups=7 does not divide the channels, 32 in and 64 out"),
        (("look", "nowhere", "digits"), "unknown network 'nowhere'"),
        (("look", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
        (("look", "small_cnn+se", "mine.png"), "no image could be read; 'mine.png': no such file"),
        (("look", "small_cnn+se", "digits", "--most", 0), "most=0"),
        (("look", "small_cnn", "digits"), "SmallCNN has no attention to watch"),
        (("train", "--resume", "--output", "nowhere"), "output='nowhere' holds no run to resume"),
        (("train", "--model", "small_cnn+sk:groups=0"), "groups=0"),
        (("train", "--model", "small_cnn+se:divisor=0"), "divisor=0"),
        (("audit", "nowhere", "digits"), "unknown network 'nowhere'"),
        (("audit", "small_cnn", "digits"), "SmallCNN has no attention to watch"),
        (("score", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
        (("audit", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_leaves_nothing(foveal, tmp_path, arguments, says):
    code, out, err = foveal(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("foveal: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_list_prints_the_mechanisms(foveal):
    _, out, _ = foveal("list")
    assert "squeeze_excite" in out
    assert "Jaderberg" in out


def test_list_prints_the_networks_with_their_cost_beside_the_papers(foveal, monkeypatch):
    """SE-ResNet-50 as the paper's Tables 2 and 10 have it, and networks that no paper reports."""
    monkeypatch.setattr("foveal.networks.catalog.NAMES", ("seresnet50", "sknet29", "seresnet20", "small_cnn"))
    _, out, _ = foveal("list", "--models")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["seresnet50"] == ["resnet50+se", "224", "28.09", "28.1", "4,092", "3,870", "Hu,", "Table", "2"]
    assert rows["sknet29"][:3] == ["resnext29_16x32d+sk", "32", "27.74"]
    assert rows["seresnet20"][2] == "0.2748"
    assert len(rows["small_cnn"]) == 3
    assert max(map(len, out.splitlines()[:-2])) <= 100


def test_list_prints_where_attention_stands(foveal):
    _, out, _ = foveal("list", "--placements")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "family blocks stands sk instead of positions"
    assert "torchvision resnet Bottleneck after bn3 conv2 bn2 relu standard pre post identity" in lines
    assert "timm convnext ConvNeXtBlock before drop_path standard pre post identity" in lines
    assert "timm vgg VGG after each activation standard" in lines


def test_settings_come_from_a_file_and_flags_win(foveal, tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3\nlr: 0.5\n")
    _, out, _ = foveal("train", "--config", "mine.yaml", "--lr", 0.25, "--print-config")
    settings = yaml.safe_load(out)
    assert (settings["epochs"], settings["lr"], settings["batch_size"]) == (3, 0.25, 32)
    (tmp_path / "wrong.yaml").write_text("epoch: 3\n")
    code, _, err = foveal("train", "--config", "wrong.yaml", "--print-config")
    assert code == 2
    assert "Did you mean --epochs?" in err


def test_train_then_look_at_data_and_at_files(foveal, tmp_path):
    code, out, _ = foveal("train", "--model", "small_cnn+stn+cbam", *FAST, "--output", "run")
    assert code == 0
    assert "epoch 1: loss" in out
    assert out.splitlines()[-1] == "run"

    code, out, _ = foveal("look", "run", "digits/rts", "--output", "seen.png", "--most", 2)
    assert (code, out) == (0, "seen.png\nseen.html\n")
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.size[0] > 500

    Image.new("RGB", (60, 50), "white").save(tmp_path / "mine.jpg")
    (tmp_path / "text.png").write_text("no image")
    code, out, _ = foveal("look", "run", "mine.jpg", "text.png", "--output", "files.png")
    assert code == 0
    assert out == "skipped text.png: not an image by its content\nfiles.png\nfiles.html\n"
    assert "<dt>text.png</dt><dd>not an image by its content</dd>" in (tmp_path / "files.html").read_text()
    code, _, err = foveal("look", "run", "text.png", "nowhere.png")
    assert code == 2
    assert "could be read; 'text.png': not an image by its content; 'nowhere.png': no such file\n" in err

    code, _, err = foveal("train", "--model", "small_cnn+stn+cbam", *FAST, "--output", "run")
    assert code == 2
    assert "output='run' holds a run; resume it" in err
    code, out, _ = foveal("train", "--output", "run", "--resume")
    assert code == 0
    assert out.splitlines()[-1] == "run"

    whole = (tmp_path / "run/best.safetensors").read_bytes()
    (tmp_path / "run/best.safetensors").write_bytes(whole[:1000])
    code, _, err = foveal("look", "run", "digits")
    assert code == 2
    assert "cannot be read, truncated" in err


def test_audit_tells_faults_by_its_exit_code(foveal, tmp_path):
    code, out, _ = foveal("audit", "small_cnn+stn", "digits", "--output", "told.json")  # at birth, which is none
    assert code == 0
    assert "at birth" in out
    assert out.splitlines()[-2:] == ["0 faults, 1 place, 500 images", "told.json"]
    assert json.loads((tmp_path / "told.json").read_text())["findings"][0]["type"] == "at birth"

    foveal("train", "--model", "small_cnn+se", *FAST, "--output", "run")
    network, checkpoint = load_checkpoint(tmp_path / "run")
    for name, weight in network.named_parameters():
        if name.endswith("fc2.bias"):
            weight.data.fill_(50.0)
    facts = {key: checkpoint.facts[key] for key in ("classes", "preprocessing", "groups")}
    save_checkpoint(tmp_path / "run/best.safetensors", network, facts)
    code, out, _ = foveal("audit", "run", "digits/rts")
    assert code == 1
    assert "! saturated open: 100.0% of the weights" in out
    assert out.splitlines()[-2:] == ["3 faults, 3 places, 500 images", "run/audit.json"]
    assert len(json.loads((tmp_path / "run/audit.json").read_text())["findings"]) == 3


@pytest.mark.slow
def test_score_tells_a_transformer_that_looks_from_one_that_does_not(foveal, tmp_path):
    foveal("train", "--model", "small_cnn+stn", "--epochs", "4", "--output", "run")
    code, out, _ = foveal("score", "run", "digits/rts")
    assert code == 0
    located = "stem.stn: pointing", "stem.stn: energy", "stem.stn: iou"
    assert [line.endswith("beats both nulls") for line in out.splitlines() if line.startswith(located)] == [True] * 3
    scored = json.loads((tmp_path / "run/score.json").read_text())
    assert scored["images"] == 1500
    assert {each["replacement"] for each in scored["ablations"] if each["accuracy_drop"]["low"] > 0} == {
        "mean",
        "another",
        "none",
    }
    _, out, _ = foveal("score", "small_cnn+stn", "digits/rts")  # untrained
    told = [line for line in out.splitlines() if line.startswith(located)]
    assert [line.endswith("not better than chance") for line in told] == [True] * 3
    code, out, _ = foveal("score", "small_cnn", "digits/rts")  # without attention
    assert (code, out.splitlines()[-1]) == (0, "score.json")
    assert "left out: SmallCNN has no attention to watch; foveal.attach adds one" in out.splitlines()


@pytest.mark.slow
def test_compare_prints_a_table_and_writes_a_page(foveal, tmp_path):
    code, out, err = foveal("compare", "none", "stn", "sk:groups=8", "--seeds", 1, *FAST, "--output", "cmp")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[-1] == "cmp/report.html"
    assert any(line.strip().startswith("sk:groups=8") for line in lines)
    page = (tmp_path / "cmp/report.html").read_text()
    assert page.count("<img alt=") == 2  # a picture for each mechanism; plots are drawn in the page itself
    assert "http" not in page.replace("http-equiv", "")
    assert {path.name for path in (tmp_path / "cmp").iterdir()} == {
        "comparison.json", "results.json", "results.csv", "results.md", "report.html",
        "none-0", "stn-0", "sk-groups=8-0", "stn-0.png", "sk-groups=8-0.png",
    }  # fmt: skip

    before = (tmp_path / "cmp/none-0/metrics.jsonl").read_text()
    code, out, _ = foveal("compare", "none", "se", "--seeds", 1, *FAST, "--output", "cmp")  # one more contender
    assert code == 0
    assert (tmp_path / "cmp/none-0/metrics.jsonl").read_text() == before
    code, _, err = foveal("compare", "none", "--seeds", 1, "--epochs", 2, "--output", "cmp")
    assert code == 2
    assert "contains a comparison with another" in err

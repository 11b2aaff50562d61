"""The command: errors in one line, settings from a file."""

import pytest
import yaml

FAST = ("--epochs", 1, "--batch-size", 500)


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (("compare", "none", "sk:groups=7"), "groups=7 does not divide the channels, 32 in and 32 out"),
        (("look", "nowhere", "digits"), "unknown network 'nowhere'"),
        (("look", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
        (("look", "small_cnn+se", "mine.png"), "no image could be read; 'mine.png': no such file"),
        (("look", "small_cnn+se", "digits", "--most", 0), "most=0"),
        (("look", "small_cnn", "digits"), "SmallCNN: no attention was found, by name or in a trial pass"),
        (("train", "--resume", "--output", "nowhere"), "--resume: output='nowhere' holds no run"),
        (("train", "--model", "small_cnn+sk:groups=0"), "groups=0"),
        (("train", "--model", "small_cnn+se:divisor=0"), "divisor=0"),
        (("audit", "nowhere", "digits"), "unknown network 'nowhere'"),
        (("audit", "small_cnn", "digits"), "SmallCNN: no attention was found, by name or in a trial pass"),
        (("score", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
        (("audit", "small_cnn+se", "digitz"), "unknown data 'digitz'; did you mean 'digits'?"),
    ],
)
def test_main_reports_an_error_in_one_line_and_writes_nothing(run_command, tmp_path, arguments, message):
    code, out, err = run_command(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("foveal: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_main_reads_settings_from_a_file_and_flags_override(run_command, tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3\nlr: 0.5\n")
    _, out, _ = run_command("train", "--config", "mine.yaml", "--lr", 0.25, "--print-config")
    settings = yaml.safe_load(out)
    assert (settings["epochs"], settings["lr"], settings["batch_size"]) == (3, 0.25, 32)
    (tmp_path / "wrong.yaml").write_text("epoch: 3\n")
    code, _, err = run_command("train", "--config", "wrong.yaml", "--print-config")
    assert code == 2
    assert err == "foveal: wrong.yaml: unknown field 'epoch'; did you mean 'epochs'?\n"

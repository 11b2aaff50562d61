"""The command's lists."""


def test_list_prints_mechanisms(run_command):
    _, out, _ = run_command("list")
    assert "squeeze_excite" in out
    assert "Jaderberg" in out


def test_list_prints_models_with_reported_costs(run_command, monkeypatch):
    """Compare with Tables 2 and 10 of the paper (SE-ResNet-50), and list networks that no paper reports."""
    monkeypatch.setattr("foveal.networks.catalog.NAMES", ("seresnet50", "sknet29", "seresnet20", "small_cnn"))
    _, out, _ = run_command("list", "--models")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["seresnet50"] == ["resnet50+se", "224", "28.09", "28.1", "4,092", "3,870", "Hu,", "Table", "2"]
    assert rows["sknet29"][:3] == ["resnext29_16x32d+sk", "32", "27.74"]
    assert rows["seresnet20"][2] == "0.2748"
    assert len(rows["small_cnn"]) == 3
    assert max(map(len, out.splitlines()[:-2])) <= 100


def test_list_prints_placements(run_command):
    _, out, _ = run_command("list", "--placements")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "family blocks attached sk replaces positions"
    assert "torchvision resnet Bottleneck after bn3 conv2 bn2 relu standard pre post identity" in lines
    assert "timm convnext ConvNeXtBlock before drop_path standard pre post identity" in lines
    assert "timm vgg VGG after each activation standard" in lines

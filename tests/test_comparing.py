"""Comparisons: pairing, figures, costs."""

import pytest
import torch
from browser import check_page, chromium, opened
from torch import nn

import foveal
from foveal.comparing import CONTENDERS, Row, spec
from foveal.costs import Cost, costs, count_macs
from foveal.drawing import Picture
from foveal.naming import slug
from foveal.report import table_rows
from foveal.settings import Recipe


def test_macs_by_thought():
    """A 3x3 convolution of 2 to 4 channels on 5x5 positions, then a layer of 100 to 3."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 3))
    assert count_macs(model, (2, 5, 5)) == 9 * 2 * 4 * 25 + 100 * 3


def test_costs_leave_models_and_threads_as_they_were():
    models = {"a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "b": nn.Conv2d(1, 4, 3)}
    threads = torch.get_num_threads()
    measured = costs(models, (1, 8, 8))
    assert torch.get_num_threads() == threads
    assert models["a"][1].training
    assert models["a"][1].running_mean.eq(0).all()
    assert measured["a"].parameters == 18 + 2 + 4
    assert measured["b"].milliseconds > 0


def test_a_row_has_mean_and_spread():
    row = Row("se", (2.0, 4.0, 6.0), Cost(10, 2_000_000, 1.5))
    assert (row.mean, row.spread) == (4.0, 2.0)
    assert Row("se", (2.0,), row.cost).spread == 0.0
    comparison = foveal.comparing.Comparison(None, "small_cnn", Recipe(), (row,), 1.0)
    assert table_rows(comparison)[1] == ["se", "4.00 ± 2.00", "2.00  4.00  6.00", "10", "2.00", "1.5"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_report(width, tmp_path):
    row = Row("none", (2.0, 4.0, 6.0), Cost(10_000_000, 2_000_000, 1.5))
    recipe = Recipe(data="folder:/somewhere/" + "deep/" * 30)
    page = foveal.write_report(foveal.comparing.Comparison(tmp_path, "small_cnn", recipe, (row,) * 3, 1.0))
    with chromium() as browser, opened(browser, page, width) as shown:
        check_page(shown)
        assert shown.locator("tbody tr").first.locator("td").all_inner_texts() == [
            "none", "4.00 ± 2.00", "2.00 4.00 6.00", "10,000,000", "2.00", "1.5"
        ]  # fmt: skip


def test_the_contenders_of_the_main_job_stand_in_its_backbone():
    plain = sum(weight.numel() for weight in foveal.create_model("small_cnn", num_classes=10, in_chans=1).parameters())
    for name in CONTENDERS:
        model = foveal.create_model(spec("small_cnn", name), num_classes=10, in_chans=1)
        if name == "stn":
            localisation = sum(weight.numel() for weight in model.stem.stn.localisation.parameters())
            assert localisation <= plain / 10


def test_folders_have_names_that_any_system_takes():
    assert slug("sk:groups=8,branches=3") == "sk-groups=8,branches=3"
    assert slug("folder:/my images/birds-resnet18") == "folder-my-images-birds-resnet18"


@pytest.mark.parametrize("contenders", [[], ["none", "se", "none"]])
def test_contenders_are_checked_before_anything_runs(contenders, tmp_path):
    with pytest.raises(ValueError, match="contender"):
        foveal.compare(contenders, output=tmp_path / "cmp")
    assert not (tmp_path / "cmp").exists()


def test_a_picture_is_of_a_figure():
    from matplotlib.figure import Figure

    assert Picture(Figure(), "nothing").png().startswith(b"\x89PNG")

"""The page of `look`, at the widths of a desktop and of a phone."""

from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from browser import check_page, chromium, opened
from torch import nn

import foveal
from foveal.core.record import Record
from foveal.inspection.finding.find import Places
from foveal.inspection.recording import Recording
from foveal.reports.look import LookResult
from foveal.reports.look_page import by_place, facts_of, summary, write_page

NAMES = ["a <b>.png", "b.png"]


class Two(nn.Module):
    """A transformer, then gates and masks; and a network that is never called."""

    def __init__(self):
        super().__init__()
        self.first = foveal.create_model("small_cnn+stn", num_classes=3, in_chans=1)
        self.second = foveal.create_model("small_cnn+cbam", num_classes=3, in_chans=1)
        self.idle = foveal.create_model("small_cnn+se", num_classes=3, in_chans=1)

    def forward(self, x):
        return self.first(x) + self.second(x)


@pytest.fixture(scope="module")
def look_result():
    torch.manual_seed(0)
    model = Two().eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with foveal.watch(model) as seen, torch.no_grad():
        model(images / 255)
    predictions = ["cat", "dog & co"]
    return LookResult("runs/mine", seen, images, NAMES, predictions, [[0.75], [0.5]], {"c.png": "no such file"})


@pytest.fixture(scope="module")
def page(look_result, tmp_path_factory):
    return write_page(look_result, tmp_path_factory.mktemp("new") / "folder" / "look.html")


class Read(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.pictures, self.titles, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_data(self, data):
        if self.inside == "h2" and data.strip():
            self.titles.append(data)
        self.inside = None if data.strip() else self.inside


def test_write_page_has_a_picture_for_each_place_and_image(look_result, page):
    text = page.read_text()
    read = Read(text)
    places = look_result.seen.paths()
    assert len(places) == 1 + 2 * 3
    assert read.titles == [
        "Places, on all images", "Images, with all places", *places, *NAMES, "Places that were not recorded",
        "Skipped images",
    ]  # fmt: skip
    assert len(read.pictures) == len(places) + len(NAMES)
    assert read.pictures[-1]["alt"].endswith("predicted: dog & co p = 0.50")
    assert text.count("never called") == 3
    assert "<dt>c.png</dt><dd>no such file</dd>" in text
    assert "first.stem.0.stn transforms the image" in text


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.exhaustive)])
def test_write_page_shows_the_chosen_place_in_a_browser(page, width):
    with chromium() as browser, opened(browser, page, width) as shown:
        check_page(shown)
        sections = shown.locator("section")
        assert [each.is_visible() for each in sections.all()] == [True] * 9  # nothing chosen: all
        shown.get_by_role("link", name="second.features.2.attention.spatial").click()
        visible = [each for each in sections.all() if each.is_visible()]
        assert [each.locator("h2").inner_text() for each in visible] == ["second.features.2.attention.spatial"]
        picture = visible[0].locator("img")
        assert "mask of second.features.2.attention.spatial" in picture.get_attribute("alt")
        box = picture.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width  # the mask is seen whole, on a phone too
        visible[0].get_by_role("link", name="Next").click()
        assert [each.is_visible() for each in sections.all()].count(True) == 1
        shown.get_by_role("link", name="a <b>.png").click()
        assert shown.locator("section:visible").locator("p").first.inner_text() == "Predicted: cat, probability 0.750"
        shown.get_by_role("link", name="Show all").click()
        assert sections.first.is_visible()
        assert sections.last.is_visible()
        shown.get_by_role("link", name="b.png", exact=True).click()
        shown.emulate_media(media="print")  # on paper there is no choosing
        assert [each.is_visible() for each in sections.all()] == [True] * 9
        assert not shown.locator("nav").is_visible()


def mask(path="a", **more):
    values = torch.tensor([0.25, 0.5, 0.5, 0.75]).view(1, 2, 2)
    facts = {"kind": "mask", "axes": "B H W", "value_range": (0.0, 1.0), "mechanism": "m", "domain": "spatial"}
    return Record(**{**facts, "values": values, **more}, path=path)


def test_facts_of_states_the_possible_and_the_actual_range():
    assert (
        facts_of(mask())
        == "m: mask, spatial, soft; B H W = 1 x 2 x 2; possible range: 0 to 1; observed range: 0.25 to 0.75"
    )
    endless = mask(value_range=(-float("inf"), float("inf")), hard=True)
    assert "spatial, hard; " in facts_of(endless)
    assert "possible range: any number; observed" in facts_of(endless)


def test_summary_warns_where_the_image_was_moved_before():
    moving = mask("b", kind="transform", axes="B 2 3", values=torch.zeros(1, 2, 3))
    assert "b transforms the image" in summary([moving, mask()], 2, 1)
    assert summary([mask(), moving], 2, 1) == "2 places with attention, 1 image."
    assert summary([mask()], 3, 1, grad_cam=True).startswith("2 places with attention, 1 image. None shows where")


def test_write_page_lists_places_without_a_picture(look_result, tmp_path):
    seen = Recording(Places(dict.fromkeys("ab", SimpleNamespace(how="by its class")), {}))
    seen._add(mask("a"))
    seen._add(mask("b", kind="affinity", axes="B G Q K", values=torch.ones(1, 2, 4, 7)))
    alone = replace(look_result, seen=seen, images=look_result.images[:1], names=["a"], predictions=["cat"])
    alone = replace(alone, probabilities=[[0.5]], skipped={})
    text = write_page(alone, tmp_path / "look.html").read_text()
    assert "<dt>b</dt><dd>&#39;b&#39;: its 7 keys are no map of the image</dd>" in text
    assert "not recorded" not in text
    assert "Skipped" not in text


def test_by_place_joins_gates_of_rows_and_columns():
    model = foveal.create_model("resnet18+coord", num_classes=2).eval()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with foveal.watch(model) as seen, torch.no_grad():
        model(images / 255)
    places = by_place(LookResult("", seen, images, ["a"], ["0"], [[0.5]], {}))
    assert len(places) == len(seen) / 2 == 8
    assert [record.axes for record in places["layer1.0.se"]] == ["B C H", "B C W"]

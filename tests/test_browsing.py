"""The page that look writes, read by a browser as wide as a desk's and as narrow as a phone's."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from browser import check_page, chromium, opened
from PIL import Image
from torch import nn

import foveal
from foveal.core.record import Record
from foveal.data.preprocessing import Preprocessing
from foveal.inspection.drawing.draw import draw
from foveal.inspection.watch import Recording
from foveal.reports.look import LookResult, collect_images, look
from foveal.reports.look_page import by_place, facts_of, summary, write_page
from foveal.training.load_model import LoadedModel

NAMES = ["a <b>.png", "b.png"]


class Two(nn.Module):
    """A transformer, then gates and masks; and a place that nobody calls."""

    def __init__(self):
        super().__init__()
        self.first = foveal.create_model("small_cnn+stn", num_classes=3, in_chans=1)
        self.second = foveal.create_model("small_cnn+cbam", num_classes=3, in_chans=1)
        self.idle = foveal.create_model("small_cnn+se", num_classes=3, in_chans=1)

    def forward(self, x):
        return self.first(x) + self.second(x)


@pytest.fixture(scope="module")
def looked():
    torch.manual_seed(0)
    model = Two().eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with foveal.watch(model) as seen, torch.no_grad():
        model(images / 255)
    said = ["cat", "dog & co"]
    return LookResult("runs/mine", draw(seen, images, said), seen, images, NAMES, said, {"c.png": "no such file"})


@pytest.fixture(scope="module")
def page(looked, tmp_path_factory):
    return write_page(looked, tmp_path_factory.mktemp("new") / "folder" / "look.html")


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


def test_a_page_has_a_picture_for_each_place_and_each_image(looked, page):
    text = page.read_text()
    read = Read(text)
    places = looked.seen.paths()
    assert len(places) == 1 + 2 * 3
    assert read.titles == [
        "Places, on all images", "Images, with all places", *places, *NAMES, "Places that were not seen",
        "Images that were left out",
    ]  # fmt: skip
    assert len(read.pictures) == len(places) + len(NAMES)
    assert read.pictures[-1]["alt"].endswith("predicted: dog & co")
    assert text.count("never called") == 3
    assert "<dt>c.png</dt><dd>no such file</dd>" in text
    assert "first.stem.stn moves the image" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_place_that_is_chosen(page, width):
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
        assert shown.locator("section:visible").locator("p").first.inner_text() == "Predicted: cat"
        shown.get_by_role("link", name="Everything").click()
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


def test_the_range_is_said_that_weights_may_have_and_have():
    assert facts_of(mask()) == "m: mask, spatial, soft; B H W = 1 x 2 x 2; may be from 0 to 1, here from 0.25 to 0.75"
    endless = mask(value_range=(-float("inf"), float("inf")), hard=True)
    assert "spatial, hard; " in facts_of(endless)
    assert "may be any number, here" in facts_of(endless)


def test_a_warning_is_given_where_the_image_was_moved_before():
    moving = mask("b", kind="transform", axes="B 2 3", values=torch.zeros(1, 2, 3))
    assert "b moves the image" in summary([moving, mask()], 2, 1)
    assert summary([mask(), moving], 2, 1) == "2 places with attention, 1 image."


def test_places_that_no_picture_shows_are_listed_with_the_reason(looked, tmp_path):
    seen = Recording(["a", "b"], {})
    seen._add(mask("a"))
    seen._add(mask("b", kind="affinity", axes="B G Q K", values=torch.ones(1, 2, 4, 7)))
    alone = replace(looked, seen=seen, images=looked.images[:1], names=["a"], predictions=["cat"], skipped={})
    text = write_page(alone, tmp_path / "look.html").read_text()
    assert "<dt>b</dt><dd>&#39;b&#39;: its 7 keys are no map of the image</dd>" in text
    assert "not seen" not in text
    assert "left out" not in text


def test_the_gates_of_rows_and_columns_are_one_place():
    model = foveal.create_model("resnet18+coord", num_classes=2).eval()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with foveal.watch(model) as seen, torch.no_grad():
        model(images / 255)
    places = by_place(LookResult("", draw(seen, images), seen, images, ["a"], ["0"], {}))
    assert len(places) == len(seen) / 2 == 8
    assert [record.axes for record in places["layer1.0.se"]] == ["B C H", "B C W"]


def test_images_beyond_the_most_are_named(tmp_path):
    files = []
    for index in range(3):
        files.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (50, 40), color=index).save(files[-1])
    opened_model = LoadedModel(nn.Identity(), (), Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3))
    images, names, skipped, _ = collect_images([*files, str(tmp_path / "x.png")], 2, opened_model)
    assert images[:, 0, 0, 0].tolist() == [0, 1]
    assert names == files[:2]
    assert skipped == {str(tmp_path / "x.png"): "no such file", files[2]: "beyond the first 2"}


def test_look_keeps_what_was_seen(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "mine.png")
    looked = look("small_cnn+se", [str(tmp_path / "mine.png")])
    assert looked.names == [str(tmp_path / "mine.png")]
    assert looked.seen.paths() == [record.path for record in looked.seen]
    assert len(looked.seen) == 3
    assert looked.images.shape[:2] == (1, 3)

"""Figures of Records: what is drawn where, on which scale, and what cannot be drawn."""

import base64
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

import foveal
from foveal.core.layout import Tokens, Windows
from foveal.core.record import Record
from foveal.inspection.drawing.canvas import BOX, LETTER, TITLE, wrapped
from foveal.inspection.drawing.draw import draw, draw_pages
from foveal.inspection.drawing.picture import save_pages
from foveal.inspection.drawing.regions import GRID_POINTS
from foveal.ops.warps import CONTROL

IMAGES = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)  # black
IMAGES[:, :, 4:, 4:] = 255


def record(kind, axes, values, **more):
    facts = {"mechanism": "test", "domain": "spatial", "value_range": (0.0, 1.0), "path": "layer1.se"}
    return Record(kind=kind, axes=axes, values=values, **{**facts, **more})


def axes_of(picture):
    return [axis for part in picture.figure.subfigs for axis in part.get_axes()]


def quarter() -> Record:
    """Every image's lower right quarter."""
    theta = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]).expand(3, 2, 3)
    return record("transform", "B 2 3", theta, value_range=(-float("inf"), float("inf")), size=(4, 4))


def test_draw_transforms_in_four_columns_with_grids():
    picture = draw([quarter()], IMAGES, ["seven", "five", "six"], most=2)
    axes = axes_of(picture)
    assert len(axes) == 2 * 6
    assert [axis.get_title()[:3] for axis in axes[:4]] == ["(a)", "(b)", "(c)", "(d)"]
    (box,) = axes[1].patches
    assert box.get_xy()[:-1:16].tolist() == [[3.5, 3.5], [7.5, 3.5], [7.5, 7.5], [3.5, 7.5]]
    assert box.get_edgecolor()[:3] == pytest.approx(tuple(int(BOX[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    crop = axes[2].images[0].get_array()
    assert crop.shape == (4, 4, 3)
    assert crop.min() == 1  # the quarter is all white
    assert axes[3].texts[0].get_text() == "seven"
    identity, learned = (axes[place].collections[0].get_offsets() for place in (4, 5))
    assert len(identity) == len(learned) == GRID_POINTS**2
    assert learned.min() > 3.5
    assert identity.min() < 0


def test_draw_shows_images_in_their_own_colours():
    image = axes_of(draw([quarter()], IMAGES))[0].images[0].get_array()
    assert set(image.flatten().tolist()) == {0.0, 1.0}


def test_draw_shows_two_channels_in_two_colours():
    images = torch.zeros(3, 2, 8, 8)
    images[:, 0, :, :6] = 1
    images[:, 1, :, 4:] = 1
    drawn = axes_of(draw([quarter()], images))[0].images[0].get_array()
    orange, white, blue = (tuple(drawn[0, column].round(3).tolist()) for column in (0, 5, 7))
    assert white == (1, 1, 1)
    assert orange[0] > blue[0]
    assert blue[2] > orange[2]


@pytest.mark.parametrize(
    ("axes", "values"),
    [
        ("B 3 3", torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])),
        ("B P 2", 0.5 * torch.tensor(CONTROL) + 0.5),
    ],
)
def test_draw_shows_the_same_quarter_in_any_family(axes, values):
    other = replace(quarter(), axes=axes, values=values.expand(3, -1, -1))
    ours, theirs = (axes_of(draw([record], IMAGES)) for record in (quarter(), other))
    assert abs(ours[1].patches[0].get_xy() - theirs[1].patches[0].get_xy()).max() < 1e-5
    assert abs(ours[2].images[0].get_array() - theirs[2].images[0].get_array()).max() < 1e-5


def test_draw_keeps_the_stated_scale_of_masks_and_gates():
    mask = record("mask", "B H W", torch.full((3, 2, 2), 0.4))
    gate = record("gate", "B C", torch.full((3, 5), 0.6))
    picture = draw([mask, gate], IMAGES)
    drawn = [image for axis in axes_of(picture) for image in axis.images if image.get_array().ndim == 2]
    assert drawn
    assert all(image.get_clim() == (0.0, 1.0) for image in drawn)


def mask_columns(picture):
    """Title, drawn values of the first image and scale of each mask that is drawn over its image."""
    titled = [axis for axis in axes_of(picture) if axis.get_title() not in ("", "image", "beside the image")]
    return [
        (axis.get_title(), axis.images[-1].get_array().tolist(), axis.images[-1].get_clim())
        for axis in titled
        if axis.images
    ]


def test_draw_averages_weights_over_channels():
    values = torch.stack([torch.full((2, 4), 1.0), torch.full((2, 4), 2.0)])[None].expand(3, -1, -1, -1)
    picture = draw([record("mask", "B C H W", values, value_range=(1.0, 2.0), path="layer1.bam")], IMAGES)
    assert mask_columns(picture) == [("test\nlayer1.bam\nmean over channels", [[1.5] * 4] * 2, (1.0, 2.0))]


def test_draw_multiplies_gates_of_rows_and_columns():
    """Channels (rows 1, 0; columns 1/2, 1) and (rows 0, 1; columns 1, 0): means of their products."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(3, 2, 2)
    columns = torch.tensor([[0.5, 1.0], [1.0, 0.0]]).expand(3, 2, 2)
    places = [f"{owner}.{axis}" for owner in ("a", "b") for axis in ("height", "width")]
    states = [("B C H", rows), ("B C W", columns)] * 2
    seen = [record("gate", *state, path=path) for path, state in zip(places, states, strict=True)]
    drawn = mask_columns(draw(seen, IMAGES))
    assert [title for title, *_ in drawn] == ["test\na\nmean over channels", "test\nb\nmean over channels"]
    assert [mask for _, mask, _ in drawn] == [[[0.25, 0.5], [0.5, 0.0]]] * 2
    (alone,) = mask_columns(draw(seen[:1], IMAGES))
    assert alone[1] == [[0.5], [0.5]]


def test_draw_scales_shares_to_the_largest():
    shares = torch.tensor([[0.5, 0.25], [0.25, 0.0]]).expand(3, 2, 2)
    (drawn,) = mask_columns(draw([record("mask", "B H W", shares)], IMAGES))
    assert drawn[2] == (0.0, 0.5)


def test_draw_gives_each_scale_a_colour_bar():
    masks = [record("mask", "B H W", torch.ones(3, 2, 2), value_range=within) for within in ((0.0, 1.0), (1.0, 2.0))]
    bars = [axis.get_xticks().tolist() for axis in axes_of(draw(masks, IMAGES)) if len(axis.get_xticks()) == 2]
    assert bars == [[0.0, 1.0]] * 2 + [[1.0, 2.0]] * 2  # over the image, and beside it


def test_draw_stacks_selections_up_to_one():
    values = torch.tensor([0.25, 0.75]).view(1, 2, 1).expand(3, 2, 6)
    axis = axes_of(draw([record("selection", "B K C", values)], IMAGES))[-1]
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == [0.25, 0.75]


def test_draw_sorts_gates_and_shows_their_range():
    values = torch.tensor([[0.2, 0.9, 0.4], [0.4, 0.7, 0.4], [0.3, 0.8, 0.4]])
    *_, axis = axes_of(draw([record("gate", "B C", values, value_range=(0.0, 2.0))], IMAGES))
    assert axis.get_title().endswith("SD over images 0.054")  # (2 * sqrt(2 / 3) * 0.1 + 0) / 3
    bars, band, line = axis.patches
    assert bars.get_data().values.tolist() == pytest.approx([0.8, 0.4, 0.3])
    assert line.get_data().values.tolist() == pytest.approx([0.8, 0.4, 0.3])
    assert band.get_data().values.tolist() == pytest.approx([0.9, 0.4, 0.4])
    assert band.get_data().baseline.tolist() == pytest.approx([0.7, 0.4, 0.2])
    assert axis.get_ylim() == (0.0, 2.0)


def test_draw_arranges_many_gates_in_a_grid():
    seen = [record("gate", "B C", torch.rand(3, 4), path=f"layer{place}.se") for place in range(6)]
    axes = axes_of(draw(seen, IMAGES, most=1))[5:]  # after the image
    assert [axis.get_title() for axis in axes] == [f"layer{place}.se\ntest" for place in range(6)]
    assert len({axis.get_position().x0 for axis in axes}) == 3


def test_draw_shows_gates_of_channel_and_position_as_map_and_bars():
    """One channel is open on the right, the other everywhere."""
    values = torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]).expand(3, 2, 1, 2)
    picture = draw([record("gate", "B C H W", values, path="layer1.ge")], IMAGES)
    assert mask_columns(picture) == [("test\nlayer1.ge\nmean over channels", [[0.5, 1.0]], (0.0, 1.0))]
    axis = axes_of(picture)[-1]
    assert axis.get_title() == "layer1.ge\nmean over positions\ntest\nSD over images 0"
    assert axis.patches[0].get_data().values.tolist() == [1.0, 0.5]


def read_by(query: int, tokens: int, key: int) -> torch.Tensor:
    """Attention (3, 2, Q, K) where one query reads one key with its first head alone, and all others the last key."""
    weights = torch.zeros(3, 2, tokens, tokens)
    weights[..., -1] = 1
    weights[:, 0, query] = torch.eye(tokens)[key]
    return weights


@pytest.mark.parametrize(
    ("tokens", "query", "key", "label"),
    [
        (10, 0, 1 + 2, "class token"),  # reads the upper right patch
        (9, 4, 2, "centre"),
        (11, 2 + 4, 2 + 2, "centre"),  # two registers
    ],
)
def test_draw_shows_what_the_class_token_or_the_centre_reads(tokens, query, key, label):
    picture = draw([record("affinity", "B G Q K", read_by(query, tokens, key), path="attn")], IMAGES)
    (drawn,) = mask_columns(picture)
    assert drawn == (f"attn\n{label}", [[0, 0, 0.5], [0, 0, 0], [0, 0, 0.5]], (0.0, 0.5))
    frames = [patch.get_xy() for patch in axes_of(picture)[0].patches]
    assert frames == ([] if label == "class token" else [pytest.approx((8 / 3 - 0.5, 8 / 3 - 0.5))])


def test_draw_puts_the_window_of_the_centre_back_on_the_image():
    """A map of 2x9 positions in two windows, its halves; the centre, row 1, column 4, is the last of the first one."""
    left, right = ([row * 9 + column for row in range(2) for column in columns] for columns in (range(5), range(4, 9)))
    halves = Windows(2, 9, torch.tensor([left[:4] + left[5:9] + [4, 13], right[1:5] + right[6:10] + [-1, -1]]))
    weights = torch.zeros(3, 2, 2, 10, 10)  # (B, N, G, Q, K)
    weights[:, 0, :, 9, 0], weights[:, 0, 0, 9, 9], weights[:, 1, :, :, 3] = 0.5, 0.25, 1.0
    tokens = Tokens(halves, halves)
    picture = draw([record("affinity", "B N G Q K", weights, path="attn", tokens=tokens)], IMAGES)
    (drawn,) = mask_columns(picture)
    expected = [[0.5, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.125, 0, 0, 0, 0]]
    assert drawn == ("attn\ncentre, 2 windows", expected, (0.0, 0.5))
    image, *_ = axes_of(picture)
    assert len(image.patches) == 1


def test_draw_refuses_windows_of_unknown_position():
    with pytest.raises(ValueError, match="'attn': its 9 keys are no map of the image"):
        draw([record("affinity", "B N G Q K", torch.rand(3, 2, 2, 9, 9), path="attn")], IMAGES)


def test_draw_shows_a_rollout_of_layers_of_the_same_tokens():
    """Two layers of identity attention: the class token holds nothing of the map; other tokens are left out."""
    same = torch.eye(10).expand(3, 2, 10, 10)
    layers = [record("affinity", "B G Q K", same, path=f"blocks.{place}.attn") for place in range(2)]
    other = record("affinity", "B G Q K", torch.eye(16).expand(3, 2, 16, 16), path="stage.attn")
    drawn = mask_columns(draw([*layers, other], IMAGES))
    assert [title for title, *_ in drawn] == [
        "blocks.0.attn\nclass token",
        "blocks.1.attn\nclass token",
        "stage.attn\ncentre",
        "rollout\n2 layers\nclass token",
    ]
    assert drawn[-1][1] == [[0.0] * 3] * 3


PREDICTIONS = ["seven\np = 0.97", "five\np = 0.60", "six\np = 1.00"]


@pytest.mark.parametrize("kind", ["gate", "selection", "mask"])
def test_draw_shows_each_image_with_its_prediction(kind):
    axes, shape = {"gate": ("B C", (3, 4)), "selection": ("B K C", (3, 2, 4)), "mask": ("B H W", (3, 2, 2))}[kind]
    shown = axes_of(draw([record(kind, axes, torch.full(shape, 0.5))], IMAGES, PREDICTIONS, most=2))
    captioned = {axis.texts[0].get_text(): axis.images[0].get_array() for axis in shown if axis.texts}
    assert list(captioned) == ["seven, p = 0.97", "five, p = 0.60"]
    for image in captioned.values():
        assert np.array_equal(image, IMAGES[0].permute(1, 2, 0).expand(-1, -1, 3) / 255)


def test_draw_of_few_maps_shows_each_beside_its_image_too():
    """Two maps fit twice beside the images; three are drawn over them alone."""
    masks = [record("mask", "B H W", torch.full((3, 2, 2), 0.5), path=f"layer{place}") for place in range(3)]
    over, alone = (axis for axis in axes_of(draw(masks[:1], IMAGES, most=1)) if axis.get_title() not in ("", "image"))
    assert [each.get_alpha() for each in over.images] == [None, 0.6]  # the image in grey, and the map
    assert [each.get_alpha() for each in alone.images] == [1.0]
    assert alone.get_title() == "beside the image"
    titles = [[axis.get_title() for axis in axes_of(draw(masks[:count], IMAGES))] for count in (2, 3)]
    assert [each.count("beside the image") for each in titles] == [2, 0]


def test_draw_opacity_is_that_of_the_maps():
    mask = record("mask", "B H W", torch.full((3, 2, 2), 0.5))
    axes = axes_of(draw([mask], IMAGES, opacity=0.25))
    assert [axis.images[-1].get_alpha() for axis in axes if axis.get_title().startswith("test")] == [0.25]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"opacity={wrong}: a number from 0 to 1 is needed"):
            draw([mask], IMAGES, opacity=wrong)


def test_draw_pages_divides_the_places_evenly():
    """Eight masks need two pages of four; ten gates are divided too, the one transform is on the first page."""
    masks = [record("mask", "B H W", torch.ones(3, 2, 2), path=f"mask{place}") for place in range(8)]
    gates = [record("gate", "B C", torch.ones(3, 4), path=f"gate{place}") for place in range(10)]
    channels = record("affinity", "B G Q K", torch.eye(9).expand(3, 2, 9, 9), path="xca", domain="channel")
    pages = draw_pages([quarter(), *masks, *gates, channels], IMAGES, most=1)
    titles = [[axis.get_title().split("\n")[-2:] for axis in axes_of(page)] for page in pages]
    named = [{name for title in page for name in title if name[:4] in ("mask", "gate")} for page in titles]
    assert named == [
        {*(f"mask{place}" for place in range(first, first + 4)), *(f"gate{place}" for place in range(begin, begin + 5))}
        for first, begin in ((0, 0), (4, 5))
    ]
    assert [["(b) learned box"] in page for page in titles] == [True, False]
    assert pages[1].figure.subfigs[-1].texts[0].get_text() == "not shown: xca: its keys are channels"
    assert len(draw_pages(masks[:4], IMAGES)) == 1


def test_save_pages_numbers_them_and_refuses_a_file_of_the_user(tmp_path):
    masks = [record("mask", "B H W", torch.ones(3, 2, 2), path=f"mask{place}") for place in range(8)]
    pages = draw_pages(masks, IMAGES, most=1)
    (tmp_path / "seen-2.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"seen-2\.png' exists, and foveal did not write it"):
        save_pages(pages, tmp_path / "seen.png")
    assert [path.name for path in tmp_path.iterdir()] == ["seen-2.png"]
    paths = save_pages(pages, tmp_path / "seen.png", overwrite=True)
    assert [path.name for path in paths] == ["seen.png", "seen-2.png"]
    assert [path.read_bytes() for path in paths] == [page.png() for page in pages]


def test_draw_pages_rolls_out_all_layers():
    layers = [
        record("affinity", "B G Q K", torch.eye(10).expand(3, 2, 10, 10), path=f"blocks.{place}.attn")
        for place in range(6)
    ]
    titles = [title for page in draw_pages(layers, IMAGES) for title, *_ in mask_columns(page)]
    assert titles[-1] == "rollout\n6 layers\nclass token"
    assert len(titles) == 7


def test_wrapped_breaks_after_dots_and_never_shrinks():
    letters = lambda count: (count + 0.5) * LETTER * TITLE / 72  # noqa: E731 (inches)
    assert wrapped("layer1.0.se\nsqueeze_excite", letters(11)) == "layer1.0.se\nsqueeze_\nexcite"
    assert wrapped("encoder.layers.11", letters(15)) == "encoder.layers.\n11"
    assert wrapped("a" * 7, letters(3)) == "aaa\naaa\na"
    assert wrapped("one two", letters(3)) == "one\ntwo"
    assert wrapped("", 1.0) == ""


def test_draw_wraps_many_columns():
    masks = [record("mask", "B H W", torch.ones(3, 2, 2), path=f"layer{place}") for place in range(16)]
    picture = draw(masks, IMAGES)
    assert [title for title, *_ in mask_columns(picture)] == [f"test\nlayer{place}" for place in range(16)]
    assert [axis.get_title() for axis in axes_of(picture)].count("image") == 4


def test_draw_names_records_without_a_picture():
    channels = record("affinity", "B G Q K", torch.eye(9).expand(3, 2, 9, 9), path="xca", domain="channel")
    odd = [record("affinity", "B G Q K", torch.rand(3, 2, 4, 7), path=f"text.{place}") for place in range(5)]
    picture = draw([quarter(), channels, *odd], IMAGES)
    (text,) = picture.figure.subfigs[-1].texts
    assert text.get_text().split("\n") == [
        "not shown: xca: its keys are channels",
        "not shown: text.0, text.1, text.2 and 2 more: its 7 keys are no map of the image",
    ]
    assert len(axes_of(picture)) == 3 * 6
    with pytest.raises(ValueError, match="'xca': its keys are channels"):
        draw([channels], IMAGES)


def test_draw_labels_of_many_selections_do_not_overlap():
    values = torch.full((3, 2, 6), 0.5)
    seen = [record("selection", "B K C", values, path=f"layer{1 + at // 4}.{at % 4}.conv2") for at in range(16)]
    picture = draw(seen, IMAGES)
    picture.png()
    *_, axis = axes_of(picture)
    starts = [label.get_window_extent().x1 for label in axis.get_xticklabels()]
    heights = [label.get_fontsize() * picture.figure.dpi / 72 for label in axis.get_xticklabels()]
    slope = torch.tensor(40.0).deg2rad().sin().item()  # sloping lines are apart by the sine of their distance
    assert all(
        slope * (after - before) > height
        for before, after, height in zip(starts, starts[1:], heights[1:], strict=False)
    )


def test_draw_html_has_an_escaped_description():
    """The img holds the drawing as WebP, and its text is escaped."""
    picture = draw([quarter(), replace(quarter(), path="b")], IMAGES, ["<7>", "5", "6"], most=2)
    alt, data = re.fullmatch(r'<img alt="([^"<>]*)" src="data:image/webp;base64,(.*)">', picture.__html__()).groups()
    assert unescape(alt) == "2 images with transform of layer1.se, transform of b; predicted: <7>, 5"
    embedded, drawn = (Image.open(io.BytesIO(each)).convert("RGB") for each in (base64.b64decode(data), picture.png()))
    difference = np.asarray(embedded, dtype=float) - np.asarray(drawn)
    assert abs(difference).mean() < 2
    assert picture._repr_html_() == picture.__html__()
    many = [replace(quarter(), path=f"at{index}") for index in range(7)]
    assert draw(many, IMAGES, most=1).alt_text.endswith("transform of at3 and 3 more")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_draw_saves_pictures(ending, tmp_path):
    path = draw([quarter()], IMAGES).save(tmp_path / f"new/seen.{ending}")
    head = path.read_bytes()[:300]
    assert head.startswith(b"\x89PNG") if ending == "png" else b"<svg" in path.read_bytes()[:2000]
    assert draw([quarter()], IMAGES)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("records", "images", "message"),
    [
        ([], IMAGES, "nothing to draw"),
        (
            [record("mask", "B K H W", torch.rand(3, 2, 4, 4))],
            IMAGES,
            "'layer1.se': no picture shows a mask of axes 'B K H W'",
        ),
        ([quarter()], IMAGES[:2], "2 images, but 'layer1.se' has 3"),
        ([quarter()], torch.randn(3, 1, 8, 8) - 5, "pass them as they were before any normalisation"),
        ([quarter()], torch.zeros(3, 4, 8, 8), r"images \(3, 4, 8, 8\): \(B, 1 to 3, H, W\)"),
    ],
)
def test_draw_refuses_what_cannot_be_drawn(records, images, message):
    with pytest.raises(ValueError, match=message):
        draw(records, images)


def test_draw_glimpses_with_numbers_and_squares():
    path = torch.tensor([[-0.5, -0.5], [0.5, 0.0]]).expand(2, 2, 2)  # pixels (1.5, 1.5) and (5.5, 3.5) of 8 x 8
    record = Record(
        mechanism="glimpse", kind="glimpse", domain="spatial", axes="B T 2", value_range=(-1, 1), hard=True,
        size=(4, 4),
        path="glimpse", values=path,
    )  # fmt: skip
    picture = draw([record], torch.zeros(2, 1, 8, 8), ["seven", "five"])
    axes = [axis for part in picture.figure.subfigs for axis in part.get_axes() if axis.images]
    assert len(axes) == 2
    assert axes[0].get_title() == "glimpse\nseven"
    assert axes[0].lines[0].get_xydata().tolist() == [[1.5, 1.5], [5.5, 3.5]]
    assert [text.get_text() for text in axes[0].texts] == ["1", "2"]
    boxes = [square.get_bbox().bounds for square in axes[0].patches]
    assert boxes == [(-0.5, -0.5, 4, 4), (3.5, 1.5, 4, 4)]


def test_draw_crops_with_boxes():
    """The lower right quarter and the upper left one of an image that is white in its lower right."""
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 4:, 4:] = 255
    quarter = [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]], [[0.5, 0.0, -0.5], [0.0, 0.5, -0.5]]
    facts = {"mechanism": "test", "domain": "spatial", "path": "stem", "value_range": (-1.0, 1.0)}
    values = torch.tensor(quarter).expand(3, 2, 2, 3)
    record = Record(kind="crop", axes="B K 2 3", values=values, size=(4, 4), **facts)
    picture = draw([record], images, ["seven", "five", "six"], most=2)
    axes = [axis for part in picture.figure.subfigs for axis in part.get_axes()]
    assert len(axes) == 2 * 4
    edges = [box.get_xy()[:-1] for box in axes[1].patches]
    first, second = (edge[:: len(edge) // 4].tolist() for edge in edges)  # the corners
    assert first == [[3.5, 3.5], [7.5, 3.5], [7.5, 7.5], [3.5, 7.5]]
    assert second == [[-0.5, -0.5], [3.5, -0.5], [3.5, 3.5], [-0.5, 3.5]]
    shown = axes[2].images[0].get_array()[..., 0]
    assert shown.shape == (6, 12)  # two crops of 4x4, each in a frame of one pixel
    assert shown[1:5, 1:5].min() == 1
    assert shown[1:5, 7:11].max() == 0
    assert axes[3].texts[0].get_text() == "seven"


class TestDrawAffinities:
    images = torch.zeros(2, 1, 12, 24)

    def record(self) -> foveal.Record:
        """Two heads on a map of 3x6 positions; the centre, row 1, column 3, reads key 0, 5 with 3/4 and 1/4."""
        values = torch.zeros(2, 2, 3, 6, 3, 6)
        values[:, 0, 1, 3, 0, 5] = values[:, 1, 1, 3, 2, 0] = 1.0
        values[:, 1, 1, 3, 0, 5], values[:, 1, 1, 3, 2, 0] = 0.5, 0.5
        facts = {"mechanism": "test", "kind": "affinity", "domain": "spatial", "value_range": (0.0, 1.0)}
        return foveal.Record(path="layer1.mhsa", axes="B G H W Y X", values=values, **facts)

    def test_draw_affinities_with_the_weights_of_the_centre_and_its_frame(self):
        axes = axes_of(foveal.draw([self.record()], self.images))
        drawn = axes[1].images[-1]
        weights = drawn.get_array()
        assert weights.shape == (3, 6)
        assert (weights[0, 5], weights[2, 0], weights.sum()) == (0.75, 0.25, 1.0)
        assert drawn.get_clim() == (0.0, 0.75)
        for axis in axes[:3]:
            (frame,) = axis.patches
            assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((11.5, 3.5), 4.0, 4.0)
        assert axes[1].get_title().endswith("centre")

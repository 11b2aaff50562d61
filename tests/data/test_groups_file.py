"""Files of groups: what a line may hold, and what is refused."""

import pytest

from foveal.data.groups_file import read_groups

IMAGES = ["cat/0.png", "cat/1.png", "dog/0.png"]
EVERY = "cat/0.png,a\ncat/1.png,b\ndog/0.png,b\n"


def read(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    return read_groups(path, IMAGES)


@pytest.mark.parametrize(
    "text",
    [
        EVERY,
        "image,group\n" + EVERY,
        " ./cat/0.png , a\ncat//1.png,b \n\ndog/../dog/0.png,b\n",
        EVERY + "other/7.png,c\ncat/0.png,a\n",
    ],
)
def test_groups_are_read_whatever_the_spaces_the_head_and_the_way_to_write_a_path(tmp_path, text):
    assert read(tmp_path, text) == ({"cat/0.png": "a", "cat/1.png": "b", "dog/0.png": "b"}, {})


def test_an_image_without_group_or_line_is_alone_and_the_latter_is_noted(tmp_path):
    groups, note = read(tmp_path, "cat/0.png,a\ncat/1.png,\n")
    assert groups == {"cat/0.png": "a"}
    assert note["groups"].startswith("1 images, as 'dog/0.png', have no line in ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat/0.png,a,2021\n", "line 1: 3 cells, and `image,group` has two"),
        ("cat/0.png;a\n", "line 1: 1 cells"),
        (EVERY + "cat/0.png,c\n", "line 4: 'cat/0.png' is in group 'c', and in 'a' by line 1"),
        (
            "cat/0.png,a\nd/dog/0.png,b\n",
            "line 2: 'd/dog/0.png' is no image of the data, and 2 of its images, as 'cat/1",
        ),
        ("x.png,a\ny.png,a\n", "none of its lines `image,group` names an image"),
        ('cat/0.png,"a\ncat/1.png,b\ndog/0.png,b\n', "unexpected end of data"),
        ('cat/0.png,"a\ncat/1.png,b\ndog/0.png,"b\n', "',' expected after '\"'"),
    ],
)
def test_lines_that_are_not_understood_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=r"groups\.csv") as raised:
        read(tmp_path, text)
    assert message in str(raised.value)

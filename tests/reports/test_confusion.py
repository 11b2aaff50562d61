"""The picture of a confusion matrix and the table by class."""

import pytest
import torch

from foveal.evaluation.classification import figures_by_class
from foveal.reports.confusion import class_table, draw_confusion, write_confusion
from foveal.training.class_figures import read_confusion, write_figures

MATRIX = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 4]])
NAMES = ["=cat", "dog|$x$", "bird"]


def test_draw_confusion_writes_the_counts_and_the_names():
    picture = draw_confusion(MATRIX, NAMES)
    axis = picture.figure.axes[0]
    assert {text.get_text() for text in axis.texts} == {"3", "1", "2", "4"}
    assert [label.get_text() for label in axis.get_yticklabels()] == NAMES
    shares = axis.images[0].get_array()
    assert shares.tolist() == [[0.75, 0.25, 0], [0, 0, 0], [pytest.approx(1 / 3), 0, pytest.approx(2 / 3)]]
    assert picture.alt_text == "Confusion matrix of 3 classes: 7 of 10 images on its diagonal."
    assert picture.png().startswith(b"\x89PNG")


def test_draw_confusion_of_many_classes_has_neither_numbers_nor_names():
    picture = draw_confusion(torch.eye(200, dtype=torch.int64), [f"class {index}" for index in range(200)])
    axis = picture.figure.axes[0]
    assert not axis.texts
    assert "class 7" not in [label.get_text() for label in axis.get_yticklabels()]
    assert max(picture.figure.get_size_inches()) < 14


def test_class_table_shows_the_worst_of_many_classes():
    rows, remark = class_table(figures_by_class(MATRIX, NAMES))
    assert rows == [
        ["=cat", "4", "60.0 %", "75.0 %", "66.7 %"],
        ["dog|$x$", "0", "0.0 %", "", "0.0 %"],
        ["bird", "6", "100.0 %", "66.7 %", "80.0 %"],
    ]
    assert remark == ""
    many = torch.eye(40, dtype=torch.int64)
    many[37] = many[37].roll(-37)  # taken for class 0
    rows, remark = class_table(figures_by_class(many, [str(index) for index in range(40)]))
    assert len(rows) == 30
    assert [row[0] for row in rows[:2]] == ["37", "0"]
    assert remark == "the 30 classes with the lowest F1, of 40; all are in classes.csv"


def test_write_confusion_reads_what_the_run_wrote(tmp_path):
    figures = figures_by_class(MATRIX, NAMES)
    write_figures(tmp_path, figures, MATRIX)
    names, matrix = read_confusion(tmp_path)
    assert names == ["'=cat", "dog|$x$", "bird"]  # no formula of a spreadsheet
    assert torch.equal(matrix, MATRIX)
    rows, _ = write_confusion(tmp_path)
    assert rows[2][1] == "6"
    assert (tmp_path / "confusion.png").is_file()
    assert (tmp_path / "classes.csv").read_text().splitlines()[2] == "dog|$x$,0,1,0.000000,,0.000000"
    for text in ("", "class,a,b\na,1\n", "class,a\na,-1\n", "class,a\na,x\n"):
        (tmp_path / "confusion.csv").write_text(text)
        with pytest.raises(ValueError, match=r"confusion\.csv: a row of counts"):
            read_confusion(tmp_path)

"""Names of data sets that do not exist."""

import pytest

import foveal


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: "digts", "unknown data 'digts'; did you mean 'digits'"),
        (lambda path: "cifar10/rts", "data 'cifar10/rts': only digits, mnist, fashion-mnist are distorted"),
        (lambda path: "digits/rst", "unknown distortion 'rst'; did you mean 'rts'"),
        (lambda path: "fashion-mnist/addition", "data 'fashion-mnist/addition': clothes have no sum"),
        (lambda path: f"folder:{path / 'nowhere'}", "no such folder"),
        (lambda path: f"folder:{path}", "no images"),
    ],
)
def test_load_data_refuses_unknown_names(make, message, tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=message):
        foveal.load_data(make(tmp_path))

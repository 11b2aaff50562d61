"""The command `check-data`."""

import numpy as np
from PIL import Image


def test_check_data_command_says_what_train_would_read(run_command, tmp_path):
    stream = np.random.default_rng(0)
    for name, count in (("cat", 40), ("dog", 10)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(count):
            pixels = stream.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    path = tmp_path / "photos/cat/3.png"
    content = bytearray(path.read_bytes())
    content[60:70] = b"\0" * 10
    path.write_bytes(content)
    code, out, err = run_command("check-data", "folder:photos", "--image-size", 32)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("left out cat/3.png: cannot be read: ")
    table = [line.split() for line in lines[1:]]
    assert table[:4] == [
        ["class", "training", "validation", "test"],
        ["cat", "27", "6", "6"],
        ["dog", "7", "2", "1"],
        ["all", "34", "8", "7"],
    ]
    assert lines[5:] == [
        "training reads random crops resized to 32 x 32 pixels, colour",
        "classes of 7 to 27 training images: see the balanced accuracy, and class_weights",
    ]


def test_check_data_command_refuses_what_train_refuses(run_command, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run_command("check-data", "empty")
    assert code == 2
    assert err.startswith("foveal: data 'folder:empty': no images in it")

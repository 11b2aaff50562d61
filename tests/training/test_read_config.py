"""Settings from files: each field is checked, and an error names the file and the field."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from foveal.training.config import RunConfig
from foveal.training.read_config import LARGEST, read_config, read_json

CONFIG = RunConfig(model="resnet20+se", data="folder:/photos", lr=3e-3, warmup_epochs=0, groups="patients.csv", seed=4)


def test_read_config_reads_what_was_written(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(asdict(CONFIG)))
    assert read_config(path, RunConfig) == CONFIG
    path.write_text("model: resnet20+se\nlr: 1\namp: true\n")  # a file of an older version lacks fields
    assert read_config(path, RunConfig) == RunConfig(model="resnet20+se", lr=1.0, amp=True, amp_dtype="bfloat16")


BROKEN = {
    "lr: 1e-2": r"lr='1e-2' is a string; a number is needed \(YAML reads 0.01 as a number\)",
    "lr: 1.5e8": r"lr='1.5e8' is a string; a number is needed \(YAML reads 150000000.0 as a number\)",
    "epochs: '6'": r"epochs='6' is a string; a whole number is needed \(YAML reads 6 as a number\)",
    "epochs: 6.0": "epochs=6.0 is a number with a point; a whole number is needed",
    "epochs: six": "epochs='six' is a string; a whole number is needed$",
    "epochs: true": "epochs=True is true or false; a whole number is needed",
    "amp: 1": "amp=1 is a whole number; true or false is needed",
    "data: 2020-01-01": "is of the type date; a string is needed",
    "lr: .inf": "lr=inf: must be a finite number above 0",
    "lr: .nan": "lr=nan: must be a finite number above 0",
    "image_sise: 32": "unknown field 'image_sise'; did you mean 'image_size'?",
    "3: 4": "unknown field '3'",
    "lr: 1\ngroups: [a]": "a list, a mapping, an alias or a tag, which no setting is in .* line 2, ",
    "data: {folder: x}": "a list, a mapping, an alias or a tag, which no setting is in .* line 1, ",
    "- lr": "a list, a mapping, an alias or a tag, which no setting is in .* line 1, ",
    "": "holds NoneType, not settings by name",
    'lr: "': "cannot be read as YAML: while scanning",
    "name: 2020-13-45": "cannot be read as YAML: month must be in 1..12",
    "name: 0b_": "cannot be read as YAML: invalid literal",
    "name: !!int ''": "a list, a mapping, an alias or a tag, which no setting is in .* line 1, ",
    "a: &a [1, 1]\nb: *a": "a list, a mapping, an alias or a tag, which no setting is in .* line 1, ",
    "name: " + "[" * 5000 + "]" * 5000: "a list, a mapping, an alias or a tag, which no setting is in .* line 1, ",
    "name: " + "9" * 5000: "cannot be read as YAML: Exceeds the limit",
    "name: " + "a" * LARGEST: r"65,542 bytes; at most 65,536 are read",
    "name: a\x00": "cannot be read as YAML: unacceptable character",
}


@pytest.mark.parametrize("text", BROKEN)
def test_read_config_names_file_and_field_in_one_line(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"^{path}: [^\n]*{BROKEN[text]}[^\n]*$"):
        read_config(path, RunConfig)


def test_files_that_are_no_text_or_no_object_are_one_line(tmp_path):
    path = tmp_path / "comparison.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=f"^{path}: not a text in UTF-8: invalid start byte at byte 7$"):
        read_json(path)
    for text, message in (("[1]", "holds list; a JSON object"), ("{", "no JSON: "), ("[" * 90_000, "no JSON: ")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"^{path}: {message}[^\n]*$"):
            read_json(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": float("inf")}, "lr=inf: must be a finite number above 0"),
        ({"lr": 0}, "lr=0: must be a finite number above 0"),
        ({"lr": 10**400}, "must be a finite number above 0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan: must be a finite number, 0 or more"),
        ({"weight_decay": float("inf")}, "weight_decay=inf: must be a finite number, 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: must be a finite number, 0 or more"),
        ({"warmup_epochs": -5}, "warmup_epochs=-5: must be from 0 to 100,000"),
        ({"warmup_epochs": float("nan")}, "warmup_epochs=nan: must be from 0 to 100,000"),
        ({"image_size": 1}, "image_size=1: must be from 8 to 8,192"),
        ({"image_size": 10**6}, "image_size=1000000: must be from 8 to 8,192"),
        ({"workers": -1}, "workers=-1: must be from 0 to 1,024"),
        ({"epochs": 0}, "epochs=0: must be from 1 to 100,000"),
        ({"batch_size": 2**40}, "must be from 1 to 1,048,576"),
        ({"smoothing": float("nan")}, "smoothing=nan: must be at least 0 and below 1"),
        ({"grad_accum_steps": 0}, "grad_accum_steps=0: must be from 1 to 1,048,576"),
        (
            {"grad_accum_steps": 5},
            "batch_size=32: must be a multiple of grad_accum_steps=5, the number of micro-batches",
        ),
        ({"amp": True, "amp_dtype": "half"}, "amp_dtype='half': must be bfloat16 or float16"),
        ({"amp_dtype": "float16"}, "amp_dtype='float16': has no effect without amp; add --amp"),
        ({"ema": 1.0}, "ema=1.0: must be at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_settings_of_another_type_are_refused():
    with pytest.raises(TypeError, match="lr='1e-2' is a string; a number is needed"):
        replace(CONFIG, lr="1e-2")
    with pytest.raises(TypeError, match=r"data=.*Path.* is of the type \w+Path; a string is needed"):
        replace(CONFIG, data=Path("photos"))

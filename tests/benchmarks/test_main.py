"""The benchmark's command: its files, its errors."""

import json

import pytest

from benchmarks.__main__ import main


def test_main_writes_three_files(tmp_path, capsys):
    main(["watching", "--rounds", "2", "--threads", "1", "--output", f"{tmp_path}/b"])
    assert capsys.readouterr().out.split()[-3:] == [f"{tmp_path}/b{end}" for end in (".md", ".json", ".png")]
    held = json.loads((tmp_path / "b.json").read_text())
    assert held["parts"]["watching"][0]["ours"] == "watched before"
    assert "Memory" in held["about"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["unit"], "part 'unit'"), (["--rounds", "1"], "rounds=1"), (["--threads", "999"], "threads=999")],
)
def test_main_refuses_bad_arguments(arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]

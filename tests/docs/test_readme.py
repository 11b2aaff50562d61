"""The README: its code runs, its pictures exist."""

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_readme_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert (tmp_path / "seen.png").stat().st_size > 10_000


def test_readme_pictures_exist():
    for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[2] / path).is_file()

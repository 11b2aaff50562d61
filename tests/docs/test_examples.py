"""Every Python example of the README and the documentation runs, and prints what the page shows."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
JOBS = "foveal.compare("  # an example that starts processes, and takes a minute


def examples(page: Path) -> list[tuple[str, str]]:
    """Code and printed text of each example of a page."""
    return EXAMPLE.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_the_page_shows(page, tmp_path, monkeypatch):
    """The examples of a page build on one another, in order."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for code, text in examples(page):
        if JOBS in code:
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page.name, "exec"), names)  # noqa: S102
        assert printed.getvalue() == text


@pytest.mark.slow
@pytest.mark.exhaustive
def test_comparison_of_the_readme_runs(tmp_path):
    """Its figures depend on the machine; their form does not."""
    (code, _), *_ = [example for example in examples(ROOT / "README.md") if JOBS in example[0]]
    one_core = "import os\n\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"  # fewer processes to start
    script = "import foveal\n" + one_core * hasattr(os, "sched_setaffinity") + code
    command = [sys.executable, "-"]  # from standard input, which no worker process can import
    done = subprocess.run(command, input=script, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert re.match(r"[0-9.]+ % and [0-9.]+ % error: \w+", done.stdout)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_readme_takes_a_minute():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_both_readmes_show_the_same_commands():
    blocks = [re.findall(r"```(?:sh|python)\n.*?```", page.read_text(), re.DOTALL) for page in PAGES[:2]]
    commands = [[re.sub(r" *#.*", "", block) for block in page] for page in blocks]
    assert commands[0] == commands[1]

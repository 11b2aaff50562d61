"""Progress that is reported by the work and shown by the command."""

from foveal.cli import console
from foveal.core.progress import progress_shown, report_progress


def test_progress_shown_calls_the_innermost_function_only():
    seen = []
    report_progress("a", 1, 2)  # to nobody
    with progress_shown(lambda *each: seen.append(("outer", *each))):
        with progress_shown(lambda *each: seen.append(("inner", *each))):
            report_progress("a", 1, 2)
        report_progress("b", 2, 2)
    report_progress("c", 1, 1)
    assert seen == [("inner", "a", 1, 2), ("outer", "b", 2, 2)]


def test_progress_lines_prints_each_tenth_of_slow_work(monkeypatch):
    printed, now = [], [0.0]
    monkeypatch.setattr(console, "print_line", printed.append)
    monkeypatch.setattr(console.time, "perf_counter", lambda: now[0])
    show = console.progress_lines(2.0)
    for done in range(1, 41):
        now[0] += 0.1
        show("checking images", done, 40)
    assert printed[0] == "checking images: 50 % of 40"
    assert printed[-1] == "checking images: 100 % of 40"
    assert len(printed) == 6
    show("checking images", 40, 40)  # quick again
    assert len(printed) == 6

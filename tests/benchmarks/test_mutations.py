"""Mutations of files: what counts as a fault, the limits of a case, and some hundred mutations of every kind."""

import time
from pathlib import Path
from random import Random

import pytest
from watched import watched

from benchmarks import mutants
from benchmarks.kinds import KINDS
from benchmarks.mutations import Tally, fault_of, report, run_mutations
from benchmarks.watchdog import FAULT, READ, REFUSED, Outcome, measured, run_cases

FILE = Path("/x/run/config.yaml")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("/x/run/config.yaml: lr='1e-2' is a string"), ""),
        (TypeError("lr='1e-2' is a string"), ""),
        (FileNotFoundError(2, "No such file", "/x/run/split.json"), ""),
        (KeyError("skipped"), "another exception"),
        (RecursionError("/x/run/config.yaml"), "another exception"),
        (MemoryError(), "another exception"),
        (ValueError("Expecting value: line 1 column 1"), "neither file nor field"),
        (ValueError("config.yaml:\nlr"), "not one line"),
        (ValueError("config.yaml: " + "9" * 1000), "not one line"),
        (OSError("image file is truncated"), "no name of a file"),
    ],
)
def test_a_fault_is_an_error_that_a_user_cannot_act_on(error, fault):
    assert fault_of(error, KINDS["config"], FILE.parent, FILE) == fault


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "limit", "value"), [("hang", "SECONDS", 0.5), ("grow", "MEGABYTES", 100.0)])
def test_a_case_that_hangs_or_grows_is_a_fault_and_the_others_continue(fault, limit, value, monkeypatch):
    monkeypatch.setattr(f"benchmarks.watchdog.{limit}", value)  # the other limit is far, however slow the machine
    found = dict(run_cases(["one", fault, "two"], 2, watched, (7,)))
    assert {case: each.state for case, each in found.items()} == {"one": READ, fault: FAULT, "two": READ}
    assert getattr(found[fault], limit.lower()) > value


@pytest.mark.slow
def test_a_case_that_dies_is_a_fault_and_the_others_continue():
    found = dict(run_cases(["one", "die", "two"], 2, watched, (7,)))
    assert {case: each.state for case, each in found.items()} == {"one": READ, "die": FAULT, "two": READ}
    assert found["one"].message == "one of 7"
    assert found["die"].message == "the process died with exit code 11"


def test_time_of_a_case_is_measured():
    def work():
        time.sleep(0.2)  # no processor time
        begin = time.process_time()
        while time.process_time() - begin < 0.1:
            pass
        return Outcome(READ, "100")

    begin = time.process_time()
    found = measured(work)
    assert 0.1 <= found.seconds <= time.process_time() - begin
    assert (found.state, found.message) == (READ, "100")


def test_memory_of_a_case_is_measured_in_a_new_process():  # memory that an old one holds may serve the case
    ((_, found),) = run_cases(["hold"], 1, watched, (7,))
    assert (found.state, found.message) == (READ, "100000000")
    assert 90 < found.megabytes < 150


def stream(seed):
    return Random(seed)  # noqa: S311 (no secret)


def test_mutations_are_the_same_for_a_seed_and_change_the_file():
    data = mutants.as_png([(b"IHDR", bytes(13)), (b"IDAT", bytes(50)), (b"IEND", b"")])
    first = [mutants.mutate_bytes(stream(seed), data) for seed in range(60)]
    assert first == [mutants.mutate_bytes(stream(seed), data) for seed in range(60)]
    assert sum(content != data for content, _ in first) > 50
    kinds = {what.split()[0] for _, what in first}
    assert kinds >= {"cut", "insert", "delete", "repeat", "swap", "edge", "zeros", "tail"}
    assert mutants.chunks_of(data) == [(b"IHDR", bytes(13)), (b"IDAT", bytes(50)), (b"IEND", b"")]
    tree = {"a": [1, {"b": 2}], "c": "d"}
    assert mutants.places(tree) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]
    changed = [mutants.mutate_tree(stream(seed), tree)[0] for seed in range(40)]
    assert tree == {"a": [1, {"b": 2}], "c": "d"}
    assert sum(each != tree for each in changed) > 30


def test_the_table_counts_outcomes_by_kind():
    tallies = {"png": Tally("PNG", [Outcome(READ, "", 0.1, 3), Outcome(REFUSED, "", 1.25, 2), Outcome(FAULT)])}
    text = report(tallies, ["`--case png 2`: hangs"], "--count 3", 9.0)
    assert "| PNG | 3 | 1 | 1 | 1 | 1.2 | 3 |" in text
    assert "| all | 3 | 1 | 1 | 1 | 1.2 | 3 |" in text
    assert text.endswith("\n- `--case png 2`: hangs\n")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_five_hundred_mutations_end_well_or_in_one_line():
    tallies, faults = run_mutations(500, 3, [*KINDS], 2)
    assert not faults
    assert sum(len(tally.outcomes) for tally in tallies.values()) == 500
    for name, tally in tallies.items():
        states = [each.state for each in tally.outcomes]
        assert states.count(REFUSED) > 0, name  # else nothing was tried

"""Simulation of the rules for verdicts: the other rules against scipy, the page and its tables."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import verdicts
from benchmarks.verdict_simulation import Noise, dunnett_statistics, t_and_holm
from benchmarks.verdicts import BEGIN, END, main, table


def test_t_and_holm_is_scipys_t_test_with_holms_steps():
    errors = np.random.default_rng(0).standard_normal((300, 5, 4))
    errors[:, 2] += 3
    errors[:, 3] += 2
    found = t_and_holm(errors)
    for own, ours in zip(errors, found, strict=True):
        p = stats.ttest_rel(own[2:], own[1:2], axis=1).pvalue
        left = [0.05 / 3, 0.05 / 2, 0.05]
        expected = set()
        for at, level in zip(np.argsort(p), left, strict=True):
            if p[at] >= level:
                break
            expected.add(int(at))
        assert set(np.flatnonzero(ours).tolist()) == expected
    assert 0 < found.sum() < found.size


def test_dunnett_statistics_have_the_mean_square_of_a_two_way_analysis():
    """Errors 0 1 2 and 0 2 4 of baseline and contender: residuals +-0.5, 0; mean square 1 / 2 of (k - 1)(n - 1) = 2."""
    errors = np.array([[[9.0, 9, 9], [0, 1, 2], [0, 2, 4]]])
    assert dunnett_statistics(errors)[0, 0] == pytest.approx(1 / np.sqrt(2 * 0.5 / 3))


def test_noise_has_mean_0_and_standard_deviation_1():
    noise = Noise(4000)
    for each, tolerance in ((noise.normal, 0.01), (noise.skewed, 0.02), (noise.heavy, 0.15)):
        assert (each.mean(), each.std()) == pytest.approx((0, 1), abs=tolerance)
    assert noise.one_diverging()[:, 2].mean() == pytest.approx(0, abs=0.1)


def test_main_replaces_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(verdicts, "CONTENDERS", (1,))
    monkeypatch.setattr(verdicts, "SEEDS", (3,))
    monkeypatch.setattr(
        verdicts, "tables", lambda draws: verdicts.main_tables(Noise(draws)) + verdicts.critical_table()
    )
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main(["--draws", "500", "--page", str(page)])
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| 1 |")] == list(verdicts.RULES)


def test_main_refuses_a_page_without_a_place_for_tables(tmp_path, capsys):
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(SystemExit):
        main(["--page", str(tmp_path / "page.md")])
    assert "needs the lines" in capsys.readouterr().err


def test_table_is_markdown():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"

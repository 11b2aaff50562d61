"""Plans of comparisons: names, checks, controls, time left."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from comparisons import COST
from helpers import write_halves

import foveal
from foveal.comparison import plan as plans
from foveal.comparison.contenders import CONTENDERS, by_name, network_name
from foveal.comparison.plan import Plan, check_resplit, check_started, make_plan
from foveal.core.folders import locked_folder
from foveal.training.config import CompareConfig, RunConfig
from foveal.training.recipes import resolve

CONFIG = CompareConfig(data="digits", epochs=1, seeds=1)


def test_by_name_splits_contenders_into_name_and_network():
    named = by_name(["none", "twin=none", "sk:groups=8", "wide=wider:match=macs", "two=stn+se:reduction=8"])
    assert named == {
        "none": "none",
        "twin": "none",
        "sk:groups=8": "sk:groups=8",
        "wide": "wider:match=macs",
        "two": "stn+se:reduction=8",
    }
    assert network_name("resnet18", "none") == "resnet18"
    assert network_name("resnet18", "stn+se") == "resnet18+stn+se"
    assert network_name("jaderberg_fcn", ":transformers=2") == "jaderberg_fcn:transformers=2"
    assert network_name("jaderberg_fcn:img_size=28", ":transformers=2") == "jaderberg_fcn:img_size=28,transformers=2"


@pytest.mark.parametrize(
    ("contenders", "message"),
    [
        ([], "contenders: the list is empty"),
        (["none", "se", "none"], "contender 'none' is named twice; give one of them another name: twin=none"),
        (["a/b=se", "a-b=none"], "contender 'a-b' is named twice"),
        (["=se"], "contender '=se': must have the form"),
        (["none", ":widths=(8,8,8,8)"], "contender ':widths=(8,8,8,8)': no option of the backbone but :transformers=N"),
        (["none", ":transformers=100"], "contender ':transformers=100': no option of the backbone but :transformers=N"),
        (["twin="], "contender 'twin=': must have the form"),
        (["none", "wider"], "contender 'wider': needs a contender with attention, to"),
        (["se", "wider:match=weight"], "unknown match 'weight'"),
        (["se", "wider:by=macs"], "unknown option of a control 'by'"),
    ],
)
def test_make_plan_checks_contenders_before_it_writes(contenders, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_plan(contenders, CONFIG, tmp_path / "cmp")
    assert not (tmp_path / "cmp").exists()


def test_plan_contenders_fit_the_default_backbone():
    plain = sum(weight.numel() for weight in foveal.create_model("small_cnn", num_classes=10, in_chans=1).parameters())
    for name in CONTENDERS:
        if name != "wider":
            model = foveal.create_model(network_name("small_cnn", name), num_classes=10, in_chans=1)
        if name == "stn":
            localisation = sum(weight.numel() for weight in model.stem[0].stn.localisation.parameters())
            assert localisation <= plain / 10


def test_make_plan_matches_controls_to_the_costliest_contender(tmp_path):
    plan = make_plan(["none", "se:reduction=2", "wider", "deeper"], CONFIG, tmp_path / "cmp")
    dearest = plan.costs["se:reduction=2"].parameters
    assert plan.costs["none"].parameters < dearest
    assert plan.costs["wider"].parameters == pytest.approx(dearest, rel=0.05)
    with locked_folder(plan.folder):
        plan.write()
    more = make_plan(["none", "eca", "se:reduction=2", "wider"], CONFIG, tmp_path / "cmp")  # eca is cheaper
    assert more.models["wider"] == plan.models["wider"]
    more.write()
    assert set(json.loads((tmp_path / "cmp/comparison.json").read_text())["contenders"]) == {
        "none", "se:reduction=2", "wider", "deeper", "eca",
    }  # fmt: skip


def with_control(folder: Path, x: str, network: str, matched: str) -> None:
    """Write a comparison with a contender x, and how it was matched where it is a control."""
    with locked_folder(folder):
        plan = plan_of(folder, 1, none="small_cnn", se="small_cnn+se", x=network)
        config = resolve(plan.config, "small_cnn", 1_000)
        replace(plan, config=config, controls={"x": f"{x} for {matched}"} if matched else {}).write()


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (("wider", "small_cnn:width=1.5", "small_cnn+se"), ["none", "se", "x=wider:match=macs"]),
        (("wider", "small_cnn:width=1.5", "small_cnn+se"), ["none", "se", "x=deeper"]),
        (("wider", "small_cnn:width=1.01", "small_cnn+se"), ["none", "sk", "x=wider"]),  # sk costs more
        (("se", "small_cnn+se", ""), ["none", "se", "x=wider"]),
    ],
)
def test_make_plan_refuses_a_stored_name_for_another_control(stored, asked, tmp_path):
    with_control(tmp_path / "cmp", *stored)
    message = f"another x, '{stored[1]}'; choose another folder, or another name for this contender"
    with pytest.raises(ValueError, match=re.escape(message)):
        make_plan(asked, CONFIG, tmp_path / "cmp")


def test_make_plan_keeps_a_control_that_is_asked_for_as_before(tmp_path):
    """Milliseconds are not measured again: they would give another network."""
    with_control(tmp_path / "cmp", "wider:match=ms", "small_cnn:width=1.13", "small_cnn+se")
    plan = make_plan(["none", "se", "x=wider:match=ms"], CONFIG, tmp_path / "cmp")
    assert plan.models["x"] == "small_cnn:width=1.13"
    path = tmp_path / "cmp/comparison.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "controls": ["x"]}))
    with pytest.raises(ValueError, match=re.escape("comparison.json: controls=['x']; texts by name are needed")):
        make_plan(["none"], CONFIG, tmp_path / "cmp")


def test_make_plan_continues_a_comparison_of_an_older_version_with_its_settings_alone(tmp_path):
    """Its file lacks settings, which had the values that are now their defaults."""
    with locked_folder(tmp_path / "cmp"):
        make_plan(["none", "se"], CONFIG, tmp_path / "cmp").write()
    path = tmp_path / "cmp/comparison.json"
    stated = json.loads(path.read_text())
    for name in ("grad_accum_steps", "amp_dtype", "compile"):
        del stated[name]
    path.write_text(json.dumps(stated))
    make_plan(["none", "se"], CONFIG, tmp_path / "cmp")
    with pytest.raises(ValueError, match="contains a comparison with another grad_accum_steps, 1;"):
        make_plan(["none", "se"], replace(CONFIG, grad_accum_steps=2), tmp_path / "cmp")


def test_make_plan_refuses_the_folder_of_another_comparison(tmp_path):
    with locked_folder(tmp_path / "cmp"):
        make_plan(["none", "twin=none"], CONFIG, tmp_path / "cmp").write()
    with pytest.raises(ValueError, match="another epochs, 1; choose another folder"):
        make_plan(["none"], replace(CONFIG, epochs=2), tmp_path / "cmp")
    with pytest.raises(ValueError, match="another twin, 'small_cnn'"):
        make_plan(["twin=se"], CONFIG, tmp_path / "cmp")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to_keep.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds files that foveal did not write"):
        make_plan(["none"], CONFIG, tmp_path / "letters")


def plan_of(folder: Path, seeds: int = 3, **models: str) -> Plan:
    """Plan with made-up costs."""
    models = models or {"none": "small_cnn", "se": "small_cnn+se"}
    same = dict.fromkeys(models, COST)
    return Plan(folder, replace(CONFIG, seeds=seeds), models, same, dict.fromkeys(models, 60.0))


def test_plan_minutes_count_what_is_left(tmp_path):
    plan = replace(plan_of(tmp_path), parallel=2)
    assert plan.minutes == 3.0  # six runs of a minute, two at a time
    plan.runs("se")[1].mkdir()
    (plan.runs("se")[1] / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 2.0, "validation_accuracy": 0.5}\n')
    assert plan.minutes == 2.5


def test_make_plan_starts_at_the_first_seed(tmp_path):
    plan = make_plan(["none", "se"], replace(CONFIG, seed=30, seeds=3), tmp_path / "cmp")
    assert {seed: folder.name for seed, folder in plan.runs("se").items()} == {30: "se-30", 31: "se-31", 32: "se-32"}
    with pytest.raises(ValueError, match="seeds=3: must be from 1 to 2"):
        replace(CONFIG, seed=9_997, seeds=3)


def test_make_plan_splits_anew_for_each_seed_and_refuses_a_published_split(tmp_path):
    plan = make_plan(["none", "se"], replace(CONFIG, seeds=3, resplit=True), tmp_path / "cmp")
    assert [plan.run_config("se", seed).data_seed for seed in range(3)] == [0, 1, 2]
    assert make_plan(["none"], CONFIG, tmp_path / "other").run_config("none", 2).data_seed == 0
    write_halves(tmp_path / "halves", 12)
    for part in ("train", "val", "test"):
        write_halves(tmp_path / "parts" / part, 12)
    settings = replace(CONFIG, image_size=16, resplit=True)
    make_plan(["none"], replace(settings, data=f"folder:{tmp_path}/halves"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"resplit: data 'folder:.*parts' has the same test part with each seed from"):
        make_plan(["none"], replace(settings, data=f"folder:{tmp_path}/parts"), tmp_path / "b")


def test_check_resplit_takes_test_parts_that_coincide_by_chance(monkeypatch):
    """As those of two seeds may, of data of few groups."""
    tests = {seed: SimpleNamespace(test=SimpleNamespace(names=names)) for seed, names in enumerate(["ab", "ba", "cd"])}
    monkeypatch.setattr(plans, "load_images", lambda config, functions, seed: tests.get(seed, tests[0]))
    check_resplit(CONFIG, tests[0], {})
    del tests[2]
    with pytest.raises(
        ValueError, match="resplit: data 'digits' has the same test part with each seed from 0 to 5, as"
    ):
        check_resplit(CONFIG, tests[0], {})


def test_make_plan_trains_the_baseline_twice_from_three_seeds_on(tmp_path):
    plan = make_plan(["se", "none"], replace(CONFIG, seeds=3), tmp_path / "cmp")
    assert (list(plan.models), plan.twin) == (["se", "none", "none again"], "none again")
    assert plan.models["none again"] == plan.models["none"]
    one, other = plan.run_config("none", 2), plan.run_config("none again", 2)
    assert replace(other, name="none", copy=0) == one
    assert (one.copy, other.copy) == (0, 1)
    for changes in ({"seeds": 2}, {"seeds": 3, "baselines": 1}):
        assert make_plan(["se", "none"], replace(CONFIG, **changes), tmp_path / "cmp").twin is None
    assert make_plan(["none"], replace(CONFIG, seeds=3), tmp_path / "cmp").twin is None
    with pytest.raises(ValueError, match="contender 'none again': the name of the second training of 'none'"):
        make_plan(["none", "none again=se"], replace(CONFIG, seeds=3), tmp_path / "cmp")


def test_by_name_takes_one_name_and_refuses_what_is_none():
    assert by_name("se") == {"se": "se"}
    with pytest.raises(TypeError, match="is no name; a network of one's own is given as backbone="):
        by_name(["none", len])


def leave(folder: Path, settings: RunConfig) -> None:
    """Write the settings of a run, as an overwritten comparison of more contenders leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(settings)))


@pytest.mark.parametrize(("run", "changes"), [("se-1", {}), ("se-tune/trial-0", {"seed": 9_999})])
def test_check_started_refuses_runs_of_another_schedule(run, changes, tmp_path):
    """Training with more epochs would continue them."""
    plan = plan_of(tmp_path, 2)
    settled = replace(plan.config, recipe="scratch-small", epochs=3, lr=0.01, warmup_epochs=0.0, tune=1)
    plan = replace(plan, config=settled)
    own = replace(plan.run_config("se", 1), **changes)
    data = foveal.load_data("digits")
    leave(tmp_path / run, replace(own, epochs=2))
    with pytest.raises(ValueError, match=f"{run}' holds a run with epochs=2, not 3; name another folder, or replace"):
        check_started(plan, data)
    check_started(replace(plan, models={"none": "small_cnn"}), data)
    leave(tmp_path / run, replace(own, lr=0.003))  # that of another trial
    check_started(plan, data)


def test_make_plan_overwrites_runs_of_another_schedule(tmp_path):
    plan = make_plan(["none"], CONFIG, tmp_path)
    leave(tmp_path / "none-0", replace(plan.run_config("none", 0), epochs=2))
    make_plan(["none"], CONFIG, tmp_path, overwrite=True)

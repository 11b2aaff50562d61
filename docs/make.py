"""A page for each mechanism, from its docstrings: formula, picture of what is recorded, cost, departures, citation.

python docs/make.py [NAME ...]   every page, or some, their costs measured (one thread, a minute)
python docs/make.py --pictures   the pictures too: each mechanism is trained on digits (some minutes)
python docs/make.py --catalogs   instead, the facts that `foveal list` prints, counted anew
python docs/make.py --check      compare pages with docstrings and catalogs with computed facts; writes nothing
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import torch
from torch import nn

import foveal
from foveal.mechanisms.catalog import CHANNELS
from foveal.mechanisms.registry import MECHANISMS, long_name
from foveal.networks.catalog import IMAGENET, IMAGES, classes_of
from foveal.networks.recipes import NAMES
from foveal.profiling.costs import count_macs, count_parameters, saved_bytes
from foveal.profiling.timing import ROUNDS, time_inference
from foveal.reports.look import look
from foveal.training.config import RunConfig

PAGES = Path(__file__).parent / "mechanisms"
STAGES = ((256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))  # what the stages of a ResNet-50 give out
SHAPES = (
    (1, 64, 64),
    (1, 128, 128),
    (1, 256, 256),
    (1, 512, 512),
)  # for mechanisms that look at images, not at maps
BATCH = 8
RUNS = {  # in which a mechanism is drawn; else small_cnn+NAME on digits/cluttered
    "stn": RunConfig(model="small_cnn+stn", data="digits/rts"),
    "glimpse": RunConfig(model="ram", data="digits/cluttered", epochs=80, lr=1e-3),
    "hard_crop": RunConfig(model="small_cnn+hard_crop:size=64", data="digits/scene"),
}


def paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in dedent(text).split("\n\n")]


def sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def page(name: str) -> str:
    """All of a page but the costs."""
    made = MECHANISMS[name]
    title, *parts = paragraphs(inspect.getmodule(made).__doc__)
    formula = [part for part in parts if part.startswith("    ")]
    departures = [part for part in parts if part.startswith("Departure")]
    remarks = [part for part in parts if part not in formula and part not in departures]
    return "\n\n".join(
        [
            f"# {made.__name__}: `{name}`",
            title,
            "## Formula",
            "```text\n" + dedent("\n\n".join(formula)) + "\n```",
            *remarks,
            "## Departures",
            *[sentence(part.partition(": ")[2]) for part in departures or ["Departures: none."]],
            "## What is recorded",
            f"![what `foveal look` draws of a network with {name}]({name}.png)",
            "## Use",
            "```text\n" + inspect.cleandoc(made.__doc__) + "\n```",
            "## Citation",
            f"{made.paper}, [arXiv:{made.arxiv}](https://arxiv.org/abs/{made.arxiv}).",
        ]
    )


def cost_table(name: str) -> str:
    """What a mechanism costs at the stages of a ResNet-50; one that looks at images, with its network."""
    run = RUNS[name] if MECHANISMS[name].hard else None
    of = f"images, `{run.model}` as a whole" if run else "maps"
    head = [
        "## Cost",
        f"For {BATCH} {of}: milliseconds of a forward pass on one thread (median of {ROUNDS}), and what the\n"
        "backward pass keeps, in units of the input.",
        "| channels | size | parameters | MMACs each | ms | kept |\n| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    if run:
        rows = [cost_row(foveal.create_model(run.model, num_classes=10, in_chans=shape[0]), shape) for shape in SHAPES]
    else:
        rows = [cost_row(MECHANISMS[name](shape[0]), shape) for shape in STAGES]
    return "\n\n".join(head) + "\n" + "\n".join(rows)


def cost_row(module: nn.Module, shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    counted = f"{count_parameters(module):,} | {count_macs(module, shape) / 1e6:,.2f}"
    measured = f"{milliseconds(module, shape):.1f} | {kept(module, shape):.1f}"
    return f"| {channels} | {height}x{width} | {counted} | {measured} |"


def milliseconds(module: nn.Module, shape: tuple[int, int, int]) -> float:
    return time_inference({"": module}, torch.rand(BATCH, *shape))[""]


def kept(module: nn.Module, shape: tuple[int, int, int]) -> float:
    """Bytes that autograd keeps from a forward pass, weights aside, over those of the input."""
    x = torch.rand(BATCH, *shape, requires_grad=True)
    return saved_bytes(lambda: module.train()(x), module.parameters()) / x.untyped_storage().nbytes()


def draw_page(name: str) -> None:
    """Train a small network with a mechanism on digits, and draw what it attends to."""
    with tempfile.TemporaryDirectory() as folder:
        settings = RUNS.get(name) or RunConfig(model=f"small_cnn+{name}", data="digits/cluttered")
        foveal.train(settings, folder)
        look(folder, [settings.data], most=3).picture.save(PAGES / f"{name}.png")


def stale() -> list[str]:
    """The mechanisms whose pages say something else than their docstrings."""
    paths = {name: PAGES / f"{name}.md" for name in MECHANISMS}
    return [name for name, path in paths.items() if not (path.is_file() and page(name) in path.read_text())]


def mechanism_facts() -> list[dict[str, object]]:
    """What `foveal.mechanisms.catalog` keeps, from the classes themselves."""
    return [
        {
            "name": name,
            "long_name": long_name(made),
            "domain": made.domain,
            "kind": "hard" if made.hard else "soft",
            "attaches": made.attaches,
            "parameters": count_parameters(made(CHANNELS)),
            "paper": made.paper,
        }
        for name, made in MECHANISMS.items()
    ]


def network_facts() -> dict[str, dict[str, int]]:
    """What `foveal.networks.catalog` keeps: weights and MACs, counted on the meta device."""
    facts = {}
    for name in NAMES:
        image = IMAGES.get(name, IMAGENET)
        with torch.device("meta"):
            model = foveal.create_model(name, num_classes=classes_of(image), in_chans=image[0])
        facts[name] = {"parameters": count_parameters(model), "macs": count_macs(model, image)}
    return facts


def catalogs() -> dict[Path, str]:
    """Text of both catalogs, a line for each entry."""
    package = Path(foveal.__file__).parent
    rows = ",\n".join(f" {json.dumps(each, ensure_ascii=False)}" for each in mechanism_facts())
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(each)}" for name, each in network_facts().items())
    return {
        package / "mechanisms/catalog.json": f"[\n{rows}\n]\n",
        package / "networks/catalog.json": f"{{\n{lines}\n}}\n",
    }


def main() -> None:
    if "--check" in sys.argv:
        wrong = [*stale(), *(str(path) for path, text in catalogs().items() if path.read_text() != text)]
        sys.exit(f"docs/make.py: stale: {', '.join(wrong)}" if wrong else 0)
    if "--catalogs" in sys.argv:
        for path, text in catalogs().items():
            path.write_text(text)
            print(path)
        return
    torch.set_num_threads(1)
    PAGES.mkdir(exist_ok=True)
    for name in [argument for argument in sys.argv[1:] if argument in MECHANISMS] or MECHANISMS:
        (PAGES / f"{name}.md").write_text(f"{page(name)}\n\n{cost_table(name)}\n")
        if "--pictures" in sys.argv:
            draw_page(name)
        print(PAGES / f"{name}.md")


if __name__ == "__main__":
    main()

"""Values of arguments compared with annotations."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

import foveal
from foveal.core.arguments import check_arguments
from foveal.mechanisms.registry import MECHANISMS


def function(
    flag: bool = False,
    count: int = 1,
    share: float = 0.5,
    size: int | tuple[int, int] | None = None,
    widths: Sequence[int] = (),
    name: str | float = "x",
    make: Callable[[], int] | None = None,
    **others: object,
) -> None: ...


RIGHT = [
    {"flag": True, "count": 3, "share": 1, "size": 4, "widths": [1, 2], "name": "y", "make": int, "more": object()},
    {"count": np.int64(3), "share": np.float32(0.5), "size": (4, 5), "widths": (), "name": 0.5, "make": None},
    {"size": None},
]
WRONG = [
    *({"flag": value} for value in ("false", 0, None)),
    *({"count": value} for value in (True, 2.0, "2", None, np.bool_(True))),
    *({"share": value} for value in (True, float("nan"), float("inf"), "0.5")),
    *({"size": value} for value in (2.5, (8,), (8, 8, 8), (8, 2.5), True)),
    *({"widths": value} for value in (3, "33", [1, True])),
    *({"name": value} for value in (True, float("nan"), None)),
]


@pytest.mark.parametrize("arguments", RIGHT)
def test_values_of_the_annotated_types_are_taken(arguments):
    check_arguments("it", function, arguments)
    check_arguments("it", partial(function, count=2), arguments)


@pytest.mark.parametrize("arguments", WRONG)
def test_other_values_are_refused_by_name(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^it: {name}=[^\n]+; .* is needed$"):
        check_arguments("it", function, arguments)


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_option_of_a_mechanism_is_compared(name):
    defaults = {each.name: each.default for each in inspect.signature(MECHANISMS[name]).parameters.values()}
    check_arguments(name, MECHANISMS[name], {key: value for key, value in defaults.items() if key != "channels"})
    for key, value in defaults.items():
        if isinstance(value, bool | int | float):
            with pytest.raises(ValueError, match=f"^{name}: {key}='false'; "):
                check_arguments(name, MECHANISMS[name], {key: "false"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18+se:bias=false", "se: bias='false'; bool is needed"),
        ("small_cnn+se:reduction=True", "se: reduction=True; int is needed"),
        ("small_cnn+se:reduction=2.5", "se: reduction=2.5; int is needed"),
        ("small_cnn+stn:size=(8,)", r"stn: size=\(8,\); int \| tuple\[int, int\] \| None is needed"),
        ("small_cnn+eca:kernel_size=three", "eca: kernel_size='three'; int . None is needed"),
        ("small_cnn:identity=false+se", "attach: identity='false'; bool is needed"),
        ("attention56:cifar=false", "network 'attention56': cifar='false'; bool is needed"),
        ("ram:std=high", "network 'ram': std='high'; float is needed"),
    ],
)
def test_names_of_networks_with_values_of_another_type_are_refused(name, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        foveal.create_model(name, num_classes=10)


@pytest.mark.parametrize("name", ["resnet18", "small_cnn"])
def test_numbers_of_classes_and_channels_are_refused_whoever_builds_the_network(name):
    for options in ({"num_classes": -1}, {"in_chans": 0}, {"num_classes": True}, {"num_classes": 2.0}):
        with pytest.raises(ValueError, match=rf"^create_model: .*{next(iter(options))}="):
            foveal.create_model(name, **options)

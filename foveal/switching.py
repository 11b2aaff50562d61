"""One switch for every fast form: inside `plain()` each mechanism and each block runs its plain definition.

A fast form gives the same answers to rounding, and stands beside the definition that it is tested against.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Run every mechanism by its plain definition while the context lasts: `with foveal.plain(): model(images)`.

    It holds for the whole process. A model that was compiled, exported or deployed before keeps the form that it has.
    """
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def fast() -> bool:
    """Whether fast forms are on."""
    return not _plain

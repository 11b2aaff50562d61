"""Results of `foveal.watch`: the Records of a model by path."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch

from foveal.core.names import unknown_name_error
from foveal.core.record import Record
from foveal.inspection.finding.find import NONE_FOUND, Places
from foveal.inspection.record_statistics import Statistics, check_one_layout, merge
from foveal.inspection.tap_points import BY_CLASS, path_by_mechanism

ELSEWHERE = "never called in the thread of this watch; another thread called the model, enter the watch there"


class Recording:
    """Recorded attention of a model: a Record for each path, or Statistics for `keep="statistics"`.

    `seen[path]` is the one Record of a place, `seen[0]` the first in the model's order; `seen.keys()`, `seen.values()`,
    `seen.items()` and `path in seen` work as those of a dict, while iteration yields the Records. A place that is
    called several times in one pass has `path#1`, `path#2`; a module with several Records is read by their own paths.
    The passes of one loop are joined on B. `unseen` gives the reason for each place without a Record; `found` says of
    each place whether it was found "by its class" or "in a trial pass".
    """

    def __init__(self, found: Places, called_elsewhere: Callable[[], bool] = bool):
        self._called_elsewhere = called_elsewhere
        self._records: dict[tuple[str, int], list[Any]] = {}
        self._look_for(found)

    def _look_for(self, found: Places) -> None:
        self._places, self._reasons = list(found.places), dict(found.reasons)
        self.found = {path: place.how for path, place in found.places.items()}

    def _drop(self, forward: int) -> None:
        """Forget a pass that did not end: places after the failure would have fewer images."""
        kept = {key: [each for each in records if each.forward != forward] for key, records in self._records.items()}
        self._records = {key: records for key, records in kept.items() if records}

    def _add(self, record: Record | Statistics) -> None:
        self._records.setdefault((record.path, record.call), []).append(record)

    def _settle(self) -> None:
        """Join the Records of each place, so that it takes no more room than one pass."""
        self._records = {key: [join(records)] for key, records in self._records.items()}

    def _hide(self, path: str, reason: str) -> None:
        self._reasons[path] = reason

    def _keys(self) -> dict[str, tuple[str, int]]:
        several = {path for path, call in self._records if call > 0}
        order = {path: index for index, path in enumerate(self._places)}
        keys = sorted(self._records, key=lambda key: (order[key[0]], key[1]))
        return {f"{path}#{call + 1}" if path in several else path: (path, call) for path, call in keys}

    @property
    def unseen(self) -> dict[str, str]:
        """Places without a Record, with the reason."""
        called = {path for path, _ in self._records}
        silent = [place for place in (*self._places, *self._reasons) if place not in called]
        never = ELSEWHERE if self._called_elsewhere() else "never called"
        return {place: self._reasons.get(place, never) for place in silent}

    def paths(self) -> list[str]:
        """The paths that `seen[path]` accepts, in the model's order."""
        return list(self._keys())

    def keys(self) -> list[str]:
        return self.paths()

    def values(self) -> list[Any]:
        return list(self)

    def items(self) -> list[tuple[str, Any]]:
        return list(zip(self.paths(), self, strict=True))

    def __contains__(self, path: object) -> bool:
        """Return True if `seen[path]` gives a Record."""
        return isinstance(path, str) and isinstance(self._find(path), str)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return (join(self._records[key]) for key in self._keys().values())

    def __getitem__(self, path: str | int) -> Any:
        keys = self._keys()
        if not isinstance(path, str):
            return join(self._records[keys[self._at(path)]])
        found = self._find(path)
        if isinstance(found, KeyError):
            raise found
        return join(self._records[keys[found]])

    def _at(self, index: int) -> str:
        """Return the path of the Record at an index in the model's order."""
        if isinstance(index, bool) or not hasattr(type(index), "__index__"):
            raise TypeError(f"seen[{index!r}]: a path or an integer is needed; there are {', '.join(self.paths())}")
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"seen[{index}]: there are {len(self)} Records, of {', '.join(self.paths()) or 'no place'}"
            )
        return self.paths()[index]

    def _find(self, path: str) -> str | KeyError:
        """Return the path of the one Record that `path` names, or the error where there is none."""
        keys = self._keys()
        if path in keys:
            return path
        if path in self.unseen:
            return KeyError(f"{path!r} was not recorded: {self.unseen[path]}")
        below = [key for key in keys if key.startswith((f"{path}.", f"{path}#"))]
        if len(below) == 1 and path:
            return below[0]
        if below and path:
            return KeyError(f"{path!r} states {len(below)} Records; ask for one: {', '.join(below)}")
        meant = path_by_mechanism(path, {key: self._records[stored][0].mechanism for key, stored in keys.items()})
        if meant is not None and meant != path:
            return self._find(meant)
        return KeyError(str(unknown_name_error("place", path, keys)) if keys else f"{path!r}: nothing was seen")

    def __repr__(self) -> str:
        lines = [f"{path}: {line(record)}{self._how(record.path)}" for path, record in self.items()]
        lines += [f"{path}: {reason}" for path, reason in self.unseen.items()]
        return "\n".join(lines) or f"nothing to see: {NONE_FOUND}"

    def _how(self, path: str) -> str:
        how = self.found[path]
        return "" if how == BY_CLASS else f", found {how}"


def line(seen: Record | Statistics) -> str:
    """Describe a Record or Statistics in one line."""
    if isinstance(seen, Statistics):
        return f"{seen.kind} {tuple(seen.across_images.mean.shape)} of {seen.count} images"
    return f"{seen.kind} {tuple(seen.values.shape)}"


def join(records: list[Any]) -> Any:
    """Join Records of one place over several passes on B, or Statistics into those of all their images."""
    first = records[0]
    if len(records) == 1:
        return first
    if isinstance(first, Statistics):
        return reduce(merge, records)
    shapes = {tuple(record.values.shape[1:]) for record in records}
    if len(shapes) > 1:
        raise ValueError(
            f"{first.path!r}: images of several sizes give {shapes}, which cannot be joined; watch each size alone"
        )
    check_one_layout(first.path, [record.tokens for record in records])
    return Record(**{**vars(first), "values": torch.cat([record.values for record in records])})

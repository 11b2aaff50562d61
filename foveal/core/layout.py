"""Layout of the tokens of a transformer on the image: all of them in one sequence, or cut into windows.

Axes: B batch, N window, Q query, K key.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Layout of tokens on a map: `num_prefix_tokens` tokens, then the map row by row.

    `names` are those of the prefix tokens, such as "class token"; without it a single one is taken for a class token.
    """

    num_prefix_tokens: int
    rows: int
    columns: int
    names: tuple[str, ...] | None = None

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the centre."""
        return self.rows // 2, self.columns // 2

    @property
    def middle(self) -> int:
        """Index of the token at the centre."""
        return self.num_prefix_tokens + self.centre[0] * self.columns + self.centre[1]

    @property
    def starts_with_class_token(self) -> bool:
        """Return True if the first token is a class token."""
        return self.num_prefix_tokens == 1 if self.names is None else self.names[:1] == ("class token",)

    def map(self, weights: Tensor) -> Tensor:
        """Reshape weights of the keys (..., K) to a map (..., rows, columns), without the prefix tokens."""
        return weights[..., self.num_prefix_tokens :].unflatten(-1, (self.rows, self.columns))


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a map: `positions` (N, K) are those of their tokens on the map, row by row, -1 for padding.

    Each position of the map lies in one window; shifts and strides are those of the network.
    """

    rows: int
    columns: int
    positions: Tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Windows):
            return NotImplemented
        same = (self.rows, self.columns) == (other.rows, other.columns)
        return same and torch.equal(self.positions, other.positions)

    def __hash__(self) -> int:
        return hash((self.rows, self.columns, self.positions.shape))

    @classmethod
    def whole(cls, rows: int, columns: int) -> "Windows":
        """Return one window that is the whole map."""
        return cls(rows, columns, torch.arange(rows * columns)[None])

    @property
    def layout(self) -> Layout:
        """Layout of the whole map."""
        return Layout(0, self.rows, self.columns, ())

    @property
    def middle(self) -> tuple[int, int]:
        """Window and index in it of the token at the centre."""
        window, token = (self.positions == self.layout.middle).nonzero()[0].tolist()
        return window, token

    def map(self, weights: Tensor) -> Tensor:
        """Put weights of the keys (B, N, K) back on the map (B, rows, columns), without those of padding."""
        inside = self.positions >= 0
        flat = weights.new_zeros(len(weights), self.rows * self.columns)
        flat[:, self.positions[inside].to(weights.device)] = weights[:, inside]
        return flat.unflatten(1, (self.rows, self.columns))

    def joined(self, weights: Tensor) -> Tensor:
        """Join weights (B, N, K, K) of the same queries and keys: (B, rows columns, rows columns), 0 across windows."""
        full = weights.new_zeros(len(weights), *2 * [self.rows * self.columns])
        for window, positions in enumerate(self.positions):
            inside = positions >= 0
            at = positions[inside]
            full[:, at[:, None], at] = weights[:, window][:, inside][:, :, inside]
        return full


@dataclass(frozen=True)
class Tokens:
    """Layouts of an affinity's queries and keys, as a pass over the model showed them; None where it has none.

    `why` is the reason for which the keys have none.
    """

    queries: Layout | Windows | None = None
    keys: Layout | Windows | None = None
    why: str = ""

"""Stacked recurrent cells, with or without normalized states.

Legend: R rows, I width of the input, H width of a state.
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.checks import lookup
from models.config import CellName, RnnConfig, StateNorm

KEY = "model.decoder.rnn"

# State of one cell: h (R, H), and c (R, H) where the cell has one.
State = tuple[Tensor, ...]


class LstmCell(nn.LSTMCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    states = 2

    def advance(self, x: Tensor, state: State) -> State:
        """Input (R, I) and the state to the next state."""
        h, c = state
        return self(x, (h, c))


class GruCell(nn.GRUCell):
    """Gated recurrent unit (Cho et al. 2014)."""

    states = 1

    def advance(self, x: Tensor, state: State) -> State:
        """Input (R, I) and the state to the next state."""
        return (self(x, state[0]),)


CELLS: dict[CellName, type[LstmCell] | type[GruCell]] = {"lstm": LstmCell, "gru": GruCell}


def _identity(dim: int, drop_rate: float) -> nn.Module:
    return nn.Identity()


def _layer_norm(dim: int, drop_rate: float) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(dim), nn.Dropout(drop_rate))


STATE_NORMS: dict[StateNorm, Callable[[int, float], nn.Module]] = {"none": _identity, "layer": _layer_norm}


class NormedCell(nn.Module):
    """Recurrent cell with a norm for each of its states after each step (Ba et al. 2016, outside the gates)."""

    def __init__(self, config: RnnConfig, input_dim: int) -> None:
        super().__init__()
        norm = lookup(STATE_NORMS, config.state_norm, f"{KEY}.state_norm")
        self.hidden_dim = config.hidden_dim
        self.cell = lookup(CELLS, config.cell, f"{KEY}.cell")(input_dim, config.hidden_dim)
        self.norms = nn.ModuleList(norm(config.hidden_dim, config.state_drop_rate) for _ in range(self.cell.states))

    def initial(self, rows: int, like: Tensor) -> State:
        """State of zeros."""
        return tuple(like.new_zeros(rows, self.hidden_dim) for _ in self.norms)

    def forward(self, x: Tensor, state: State) -> State:
        """Input (R, I) and the state to the next state."""
        return tuple(norm(value) for norm, value in zip(self.norms, self.cell.advance(x, state), strict=True))


class CellStack(nn.Module):
    """Stack of `depth` cells, each reading the hidden state of the one below."""

    def __init__(self, config: RnnConfig, input_dim: int, depth: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(NormedCell(config, config.hidden_dim if i else input_dim) for i in range(depth))

    def initial(self, rows: int, like: Tensor) -> list[State]:
        """States of zeros for all cells."""
        return [cell.initial(rows, like) for cell in self._cells()]

    def forward(self, x: Tensor, states: list[State]) -> list[State]:
        """Advances all cells by one step: input (R, I) and their states to their next states."""
        next_states = []
        for cell, state in zip(self._cells(), states, strict=True):
            next_states.append(cell(x, state))
            x = next_states[-1][0]
        return next_states

    def _cells(self) -> list[NormedCell]:
        return [cell for cell in self.cells if isinstance(cell, NormedCell)]  # a ModuleList is not generic

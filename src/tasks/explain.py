"""Which words of a text speak for a label: integrated gradients over its tokens."""

from __future__ import annotations

import html
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from ..data.text_tokens import make_tokenizer
from ..errors import BackboneError, InvalidValueError, check_count, unknown_name
from ..specs import TextSpec
from .running import move
from .training import best_device

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Encoding

    from .task import Task

Array = np.ndarray[Any, np.dtype[Any]]  # Any: of numbers


@dataclass(frozen=True, repr=False)
class Explanation:
    """How much each piece of a text adds to the logit of a label.

    Args:
        pieces: The text, cut where the tokenizer cuts it; together they are what the net has seen.
        values: What each piece adds, (pieces,); below 0 it speaks against the label.
        label: The label that is explained.
        gap: Logit of the label for the text, less that for a text of nothing but padding.
    """

    pieces: tuple[str, ...]
    values: Array
    label: str
    gap: float

    @property
    def error(self) -> float:
        """How far the values are from adding up to the gap, as a share of it.

        They add up exactly where the steps along the path are infinitely many (completeness,
        Sundararajan et al. 2017, prop. 1).
        """
        return abs(float(self.values.sum()) - self.gap) / max(abs(self.gap), 1e-6)

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per piece: ``piece`` and ``value``."""
        import pandas as pd

        return pd.DataFrame({"piece": self.pieces, "value": self.values})

    def __str__(self) -> str:
        """Colour the text where the output is a terminal: blue for the label, red against it."""
        text = Text(f"{self.label}: ", style="bold")
        for piece, colour in zip(self.pieces, self._colours(), strict=True):
            text.append(piece, style=f"black on rgb({','.join(map(str, colour))})")
        console = Console(file=io.StringIO(), force_terminal=sys.stdout.isatty(), width=100)
        console.print(text)
        return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]  # a StringIO

    __repr__ = __str__

    def _repr_html_(self) -> str:
        spans = [
            f'<span style="background:rgb{colour};color:black" title="{value:+.3f}">'
            f"{html.escape(piece)}</span>"
            for piece, value, colour in zip(self.pieces, self.values, self._colours(), strict=True)
        ]
        return f"<p><b>{html.escape(self.label)}:</b> {''.join(spans)}</p>"

    def _colours(self) -> list[tuple[int, int, int]]:
        most = max(float(np.abs(self.values).max(initial=0)), 1e-12)
        colours = []
        for value in self.values.tolist():
            pale = round(255 * (1 - 0.7 * abs(value) / most))
            colours.append((pale, pale, 255) if value >= 0 else (255, pale, pale))
        return colours


def explain_text(
    task: Task, text: str | tuple[str, str], *, label: str | None, steps: int
) -> Explanation:
    """Integrate gradients from padding to the text (Sundararajan et al. 2017, arXiv:1703.01365).

    The path is straight in the space of the token embeddings, and is integrated by Gauss-Legendre
    quadrature in fp32. Tokens that mark start and end stay as they are.

    Raises:
        UnknownNameError: The label is none of the classes.
        BackboneError: The backbone has no table of token embeddings.
    """
    spec = task.input_spec
    if not isinstance(spec, TextSpec):
        raise InvalidValueError(f"Only texts are explained by their tokens, got {spec.kind}.")
    check_count("steps", steps, least=2)
    encoding = make_tokenizer(spec).encode(*(text if isinstance(text, tuple) else (text,)))
    windows = [encoding, *encoding.overflowing] if spec.long == "chunk" else [encoding]
    task.to(best_device()).eval()
    position = _position(task, windows, spec, label)
    values: dict[tuple[int, int, int], float] = {}
    gap = 0.0
    for window in windows:
        gained, shares = _integrate(task, window, spec, position, steps)
        gap += gained / len(windows)
        where = zip(window.sequence_ids, window.offsets, shares, strict=True)
        for sequence, (start, end), value in where:
            if sequence is not None:  # overlaps of windows are read more than once
                key = (sequence, start, end)
                values[key] = values.get(key, 0.0) + value / len(windows)
    places = sorted(values)  # windows of a pair take turns between its texts
    of_each = np.array([values[place] for place in places])
    return Explanation(_pieces(text, places), of_each, task.spec.classes[position], gap)


def token_table(backbone: nn.Module) -> nn.Embedding:
    """Find the table of token embeddings: the first one that a net of texts holds.

    Raises:
        BackboneError: There is none.
    """
    table = next((m for m in backbone.modules() if isinstance(m, nn.Embedding)), None)
    if table is None:
        raise BackboneError("The backbone has no table of token embeddings.")
    return table


def _position(task: Task, windows: list[Encoding], spec: TextSpec, label: str | None) -> int:
    classes = task.spec.classes
    if label is None:
        with torch.no_grad():
            logits = [task(move(_batch(window, spec, 1), task.device)) for window in windows]
        return int(torch.cat(logits).mean(0).argmax())
    if str(label) not in classes:
        raise unknown_name("class", label, classes)
    return classes.index(str(label))


def _batch(window: Encoding, spec: TextSpec, count: int) -> dict[str, Tensor]:
    ids = torch.tensor([window.ids]).repeat(count, 1)
    batch = {
        "index": torch.arange(count),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }
    if spec.type_ids:
        batch["token_type_ids"] = torch.tensor([window.type_ids]).repeat(count, 1)
    return batch


def _integrate(
    task: Task, window: Encoding, spec: TextSpec, position: int, steps: int
) -> tuple[float, list[float]]:
    """Answer with the gain of the logit along the path, and with each token's share of it."""
    table = token_table(task.backbone)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    # The ends of the path are two rows more, which are not integrated but compared.
    places = torch.tensor([*(0.5 * (nodes + 1)), 0.0, 1.0], dtype=torch.float32)
    shares = torch.tensor([*(0.5 * weights), 0.0, 0.0], dtype=torch.float32)
    ids = torch.tensor(window.ids, device=task.device)
    marks = torch.tensor(window.special_tokens_mask, device=task.device).bool()
    padding = torch.where(marks, ids, spec.pad_id)
    with torch.no_grad():
        end, start = table(ids), table(padding)
    path = start + places.to(task.device)[:, None, None] * (end - start)
    path = path.detach().requires_grad_()
    handle = table.register_forward_hook(lambda module, given, output: path)
    try:
        with torch.enable_grad():
            logits = task(move(_batch(window, spec, len(places)), task.device))[:, position]
            (gradients,) = torch.autograd.grad(logits.sum(), path)
    finally:
        handle.remove()
    mean = (shares.to(task.device)[:, None, None] * gradients).sum(0)
    gained = float((logits[-1] - logits[-2]).detach())
    return gained, ((end - start) * mean).sum(1).tolist()


def _pieces(text: str | tuple[str, str], keys: list[tuple[int, int, int]]) -> tuple[str, ...]:
    """Cut the text behind every token, so that the pieces together are the text."""
    parts = text if isinstance(text, tuple) else (text,)
    pieces = []
    for number, (sequence, _, end) in enumerate(keys):
        before = keys[number - 1] if number else (-1, 0, 0)
        first = before[2] if before[0] == sequence else 0
        gap = " | " if sequence > 0 and before[0] != sequence else ""
        pieces.append(gap + parts[sequence][first:end])
    return tuple(pieces)

"""Tensors from files into nets, strictly: whatever does not fit is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError

_SAFE_NAMES = ("model.safetensors", "pytorch_model.safetensors")
_PICKLED_NAMES = ("pytorch_model.bin", "model.pth", "model.pt")
_PICKLED_ENDINGS = (".pt", ".pth", ".bin")
_MOST_NAMED = 4


@dataclass(frozen=True)
class Weights:
    """Named tensors and what is known about the net that they come from.

    Args:
        state: The tensors by their names in the source.
        origin: Where they come from, in words for messages.
        in_chans: Number of channels C of the pictures that the source was trained on.
        size: Height and width that the source was trained on, or None where nobody recorded it.
        exact: Whether the names are those of the same net built by this library.
    """

    state: Mapping[str, Tensor]
    origin: str
    in_chans: int = 3
    size: tuple[int, int] | None = None
    exact: bool = False

    def with_state(self, state: Mapping[str, Tensor]) -> Weights:
        """Answer with other tensors from the same place."""
        return replace(self, state=state)


def read(path: str | Path) -> Weights:
    """Read a file of tensors, or the one such file of a folder, without running code from it.

    Raises:
        WeightsError: There is no such file, or it holds anything but tensors.
    """
    if not isinstance(path, str | Path):
        raise WeightsError(f"weights={path!r}: expected the path of a file or of a folder.")
    path = Path(path)
    file = _file_of(path) if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            f"There are no weights at {str(file)!r}. Give the path of a .safetensors file, or of a "
            f"folder that holds one called {_SAFE_NAMES[0]}."
        )
    if file.suffix == ".safetensors":
        return Weights(_read_safetensors(file), f"the file {str(file)!r}")
    if file.suffix in _PICKLED_ENDINGS:
        return Weights(_read_pickled(file), f"the file {str(file)!r}")
    raise WeightsError(
        f"{str(file)!r} has an ending that no weights have. Expected .safetensors or one of "
        f"{', '.join(_PICKLED_ENDINGS)}."
    )


def load(net: nn.Module, weights: Weights) -> None:
    """Fill a net with exactly the tensors it has.

    Half precision tensors become those of the net's own precision.

    Raises:
        WeightsError: A tensor is missing, unexpected or of another shape.
    """
    try:
        net.load_state_dict(dict(weights.state), strict=True)
    except RuntimeError as error:
        raise misfit(weights.origin, error) from None


def misfit(origin: str, error: Exception) -> WeightsError:
    """Say in a few words which tensors torch refused to load."""
    text = str(error)
    parts = [
        _named("missing", re.findall(r'"([^"]+)"', _line_with(text, "Missing key"))),
        _named("unexpected", re.findall(r'"([^"]+)"', _line_with(text, "Unexpected key"))),
        _named("misshapen", _misshapen(text)),
    ]
    told = "; ".join(part for part in parts if part) or " ".join(text.split())[:300]
    return WeightsError(
        f"The weights from {origin} do not fit the net: {told}. Expected exactly the net's own "
        "tensors: check that the file belongs to this architecture and to these options."
    )


def unreachable(
    name: str,
    where: str,
    error: Exception,
    *,
    what: str = "pretrained weights",
    instead: str = "give a file with weights=..., or start from random weights with "
    "pretrained=False",
) -> WeightsError:
    """Say that weights were asked for and cannot be had, and what the user can do about it.

    Args:
        name: Of the net.
        where: They were looked for.
        error: What looking for them ended in.
        what: Was looked for.
        instead: What else the user can do than to get it.
    """
    reason = " ".join(str(error).split())[:160]
    return WeightsError(
        f"The {what} of {name!r} ({where}) could not be reached ({type(error).__name__}: "
        f"{reason}). Connect to the network or download them beforehand, {instead}."
    )


def without(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Leave out the tensors of the named modules: the source's own classifier."""
    starts = tuple(prefix + "." for prefix in prefixes)
    return {name: tensor for name, tensor in state.items() if not name.startswith(starts)}


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Keep the tensors whose names start with a prefix, and take it off."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def _file_of(folder: Path) -> Path:
    found = [folder / name for name in (*_SAFE_NAMES, *_PICKLED_NAMES) if (folder / name).is_file()]
    if found:
        return found[0]
    loose = sorted(folder.glob("*.safetensors"))
    if len(loose) > 1:
        raise WeightsError(
            f"{str(folder)!r} holds {len(loose)} files of weights ({loose[0].name}, "
            f"{loose[1].name}, ...). Name the one to load: weights='{loose[0]}'."
        )
    return loose[0] if loose else folder / _SAFE_NAMES[0]


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(file, device="cpu"))
    except SafetensorError as error:
        raise WeightsError(
            f"{str(file)!r} is no safetensors file, or only a part of one ({error}). Copy or "
            "download it again."
        ) from None


def _read_pickled(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds for damaged and for unsafe files
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{str(file)!r} could not be read as plain tensors ({type(error).__name__}: {reason}). "
            "Save it again as safetensors: safetensors.torch.save_file(net.state_dict(), path)."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{str(file)!r} holds something else than named tensors. Expected a state dict."
        )
    return content


def _line_with(text: str, start: str) -> str:
    return next((line for line in text.splitlines() if line.strip().startswith(start)), "")


def _misshapen(text: str) -> list[str]:
    pattern = (
        r"size mismatch for (\S+): .*?torch\.Size\(\[([^\]]*)\]\).*?torch\.Size\(\[([^\]]*)\]\)"
    )
    found = re.findall(pattern, text)
    return [f"{name} is ({got}), expected ({expected})" for name, got, expected in found]


def _named(word: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = ", ..." if len(names) > _MOST_NAMED else ""
    return f"{len(names)} {word} ({', '.join(names[:_MOST_NAMED])}{rest})"

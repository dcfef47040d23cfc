"""How a net is cut into blocks, from the input side to the output side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from torch import nn

from .base import Block

_FEW = 3  # a net with fewer parts than this is opened up further
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_MOST = 0.8  # a part with a larger share of all parameters is opened up, too
_Part = tuple[str, nn.Module]


def make_blocks(net: nn.Module, groups: Sequence[Sequence[str]], *, prefix: str) -> list[Block]:
    """Turn groups of parameter names into blocks that also know their modules.

    A module belongs to the block of its parameters. One without parameters (dropout) belongs to its
    parent's block or, where the parent spans several, to the block of what stands before it.
    Modules that span several blocks belong to none, so that a mode set on a module and everything
    below it stays within one block.

    Args:
        net: The net that is cut.
        groups: Names as in ``net.named_parameters()``, each exactly once.
        prefix: What the backbone's own names have in front of the net's.
    """
    block_of = {name: index for index, group in enumerate(groups) for name in group}
    modules: list[list[nn.Module]] = [[] for _ in groups]
    owner: dict[str, int | None] = {}
    last = 0
    for path, module in net.named_modules():
        start = path + "." if path else ""
        below = {
            block_of[start + name]
            for name, _ in module.named_parameters()
            if start + name in block_of
        }
        if len(below) > 1:
            owner[path] = None
            continue
        parent = owner.get(path.rpartition(".")[0]) if path else None
        index = below.pop() if below else (last if parent is None else parent)
        owner[path] = last = index
        modules[index].append(module)
    return [
        Block(_title(group), tuple(prefix + name for name in group), tuple(found))
        for group, found in zip(groups, modules, strict=True)
    ]


def partition(net: nn.Module) -> list[list[str]]:
    """Cut any net into groups of parameter names, in the order in which its modules stand.

    The largest part is opened until there are a few parts. Stems, bare parameters and whatever else
    stands in front of the opened part join its first group, what follows its last.
    """
    before = [name for name, _ in net.named_parameters(recurse=False)]
    after: list[str] = []
    parts = _parts(net, "")
    layers: set[str] = set()  # single layers that form groups of their own
    listed = False  # whether the parts are those that the net's own author listed
    while (at := _to_open(parts, listed=listed)) is not None:
        path, module = parts[at]
        listed = listed or isinstance(module, _LISTS)
        inner = _parts(module, path + ".")
        bare = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if any(_composite(child) for _, child in inner):
            before += _names(parts[:at]) + bare
            after = _names(parts[at + 1 :]) + after
            parts = inner
        else:  # a list of layers, as in VGG: its neighbours stay parts of their own
            before += bare
            parts[at : at + 1] = inner
            layers |= {name for name, _ in inner}
    if not any(_composite(module) for _, module in parts):
        layers = {name for name, _ in parts}
    groups = _join_leaves(parts, layers)
    if not groups:
        return [before + after] if before or after else []
    groups[0] = before + groups[0]
    groups[-1] = groups[-1] + after
    return _each_once(groups, net)


def complete(groups: Iterable[Iterable[str]], net: nn.Module) -> list[list[str]]:
    """Drop what is no parameter of the net, and let parameters that no group has join the last."""
    kept = _each_once([list(group) for group in groups], net)
    known = {name for group in kept for name in group}
    rest = [name for name, _ in net.named_parameters() if name not in known]
    if rest and kept:
        kept[-1] += rest
        return kept
    return kept or ([rest] if rest else [])


def _parts(module: nn.Module, prefix: str) -> list[_Part]:
    return [
        (prefix + name, child)
        for name, child in module.named_children()
        if next(child.parameters(), None) is not None
    ]


def _composite(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _to_open(parts: Sequence[_Part], *, listed: bool) -> int | None:
    """Find the part to open: the largest, while there are few or it holds nearly everything.

    Once a list was opened only further lists are: what stands in one is a layer, not to be torn.
    """
    sizes = {
        index: sum(parameter.numel() for parameter in module.parameters())
        for index, (_, module) in enumerate(parts)
        if _opens(module) and (not listed or isinstance(module, _LISTS))
    }
    if not sizes:
        return None
    at = max(sizes, key=lambda index: sizes[index])
    num_composite = sum(_composite(module) for _, module in parts)
    return at if num_composite < _FEW or sizes[at] > _MOST * sum(sizes.values()) else None


def _opens(module: nn.Module) -> bool:
    """Say whether a part has something to show inside: further parts, or a list of layers."""
    inner = [child for _, child in _parts(module, "")]
    if any(_composite(child) for child in inner):
        return True
    return isinstance(module, nn.Sequential) and sum(map(_has_kernel, inner)) >= _FEW


def _has_kernel(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _names(parts: Iterable[_Part]) -> list[str]:
    return [f"{path}.{name}" for path, module in parts for name, _ in module.named_parameters()]


def _join_leaves(parts: Sequence[_Part], layers: Collection[str]) -> list[list[str]]:
    """Give leaves to the group before them or, in front of the first group, to that one.

    A composite part begins a group, and of the `layers` each one with a matrix or a kernel.
    """
    groups: list[list[str]] = []
    waiting: list[str] = []
    for part in parts:
        path, module = part
        if _composite(module) or (path in layers and _has_kernel(module)):
            groups.append(waiting + _names([part]))
            waiting = []
        elif groups:
            groups[-1] += _names([part])
        else:
            waiting += _names([part])
    return groups or ([waiting] if waiting else [])


def _each_once(groups: Iterable[Iterable[str]], net: nn.Module) -> list[list[str]]:
    """Keep, of a parameter that stands under two names, the one that the net itself counts."""
    own = {name for name, _ in net.named_parameters()}
    kept = [[name for name in group if name in own] for group in groups]
    return [group for group in kept if group]


def _title(names: Sequence[str]) -> str:
    """Name a block by the longest start that most of its parameters share, or by its ends."""
    path = names[0].split(".")[:-1]
    starts = [".".join(path[:depth]) + "." for depth in range(len(path), 0, -1)]
    for share in (0.75, 0.5):
        for start in starts:
            if sum(name.startswith(start) for name in names) >= share * len(names):
                return start[:-1]
    tops = [name.split(".")[0] for name in (names[0], names[-1])]
    return tops[0] if tops[0] == tops[1] else "..".join(tops)

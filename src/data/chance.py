"""Chance that is a pure function: the same numbers on any device and in any batch."""

from __future__ import annotations

import torch
from torch import Tensor


def chance(seed: int, epoch: int, index: Tensor, *, draw: int) -> Tensor:
    """Answer with a number in [0, 1) per index, (B,), that depends on the arguments alone.

    The mixing is that of splitmix64 (Steele et al. 2014, doi:10.1145/2714064.2660195), in integers
    that overflow in the same way on every device.

    Args:
        seed: Any integer.
        epoch: Any integer.
        index: Integers, (B,).
        draw: Tells apart several numbers of one picture and epoch.
    """
    state = torch.full_like(index, _signed(seed), dtype=torch.int64)
    for number in (epoch, draw):
        state = _mix(state ^ _signed(number + 1))
    state = _mix(state ^ index.long())
    return _shift_right(state, 40).float() / (1 << 24)  # 24 bits: what a float holds exactly


def chances(seed: int, epoch: int, index: Tensor, *, first: int, num: int) -> Tensor:
    """Answer with many draws at once, (B, num): those of `chance` from number `first` on."""
    draws = torch.arange(first, first + num, device=index.device)
    state = torch.full_like(draws, _signed(seed), dtype=torch.int64)
    state = _mix(_mix(state ^ _signed(epoch + 1)) ^ (draws + 1))
    state = _mix(state ^ index.long()[:, None])
    return _shift_right(state, 40).float() / (1 << 24)


def _mix(state: Tensor) -> Tensor:
    state = state + _signed(0x9E3779B97F4A7C15)
    state = (state ^ _shift_right(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift_right(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    """Shift without the sign: torch's own shift repeats it."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Wrap to 64 bits with a sign, the widest integers that torch computes in."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def between(low: float, high: float, draws: Tensor) -> Tensor:
    """Spread numbers in [0, 1) evenly over [low, high)."""
    return low + (high - low) * draws

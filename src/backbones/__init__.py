"""Backbones: pictures and texts into features, series into forecasts, by one registry."""

from __future__ import annotations

from . import image as image  # one line per kind: importing it adds its row to the registry
from . import series as series
from . import text as text
from .base import Backbone, Block
from .building import create, rebuild
from .registry import BackboneInfo, describe, find, register

__all__ = [
    "Backbone",
    "BackboneInfo",
    "Block",
    "create",
    "describe",
    "find",
    "rebuild",
    "register",
]

"""Windows taken apart: the parts add up, and each is what its name says."""

from __future__ import annotations

import pytest
import torch

from mealkit.backbones.series_parts import split


@pytest.mark.parametrize("season", [1, 4, 7, 24])
@pytest.mark.parametrize("length", [1, 5, 48, 50])
def test_parts_add_up_to_the_window(season, length):
    past = torch.randn(3, length, generator=torch.Generator().manual_seed(0))
    parts = split(past, season)
    assert ("season" in parts) == (1 < season <= length / 2)
    assert torch.allclose(sum(parts.values()), past, atol=1e-6)


@pytest.mark.parametrize("season", [4, 7])
@pytest.mark.parametrize("length", [14, 31])
def test_a_level_and_a_season_are_told_apart_exactly(season, length):
    figure = torch.randn(season, generator=torch.Generator().manual_seed(1))
    figure = figure - figure.mean()
    wave = figure.repeat(length)[:length][None]
    parts = split(5 + wave, season)
    assert torch.allclose(parts["trend"], torch.full((1, length), 5.0), atol=1e-5)
    assert torch.allclose(parts["season"], wave, atol=1e-5)
    assert float(parts["rest"].abs().max()) < 1e-5


def test_a_line_is_all_trend_away_from_the_ends():
    line = torch.arange(60.0)[None]
    trend = split(line, 12)["trend"]
    assert torch.allclose(trend[:, 12:-12], line[:, 12:-12], atol=1e-4)
    jump = split(torch.tensor([[0.0] * 10 + [9.0] + [0.0] * 10]), 1)
    assert float(jump["rest"][0, 10]) > 8

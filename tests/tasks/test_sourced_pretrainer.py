"""Sources of pretrainers for series, and what is of another kind than the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mealkit import SeriesData, SSLPretrainer
from mealkit.data import UnlabelledSeries
from mealkit.errors import BackboneError, DataError, InvalidValueError, UnknownNameError

COLUMNS = {"time": "day", "target": "sales", "series": "shop"}


def frame() -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=120, freq="D")
    waves = {"a": np.sin(np.arange(120)), "b": 9 + np.cos(np.arange(120))}
    parts = [pd.DataFrame({"day": days, "shop": n, "sales": w}) for n, w in waves.items()]
    return pd.concat(parts)


def test_every_source_of_series_makes_a_pretrainer(tmp_path: Path) -> None:
    long = frame()
    long.to_csv(tmp_path / "long.csv", index=False)
    wide = long.pivot(index="day", columns="shop", values="sales").reset_index()
    arrays = {shop: part["sales"].to_numpy() for shop, part in long.groupby("shop")}
    data = SeriesData.from_data_frame(long, horizon=5, val=20, test=20, **COLUMNS)
    made = {
        "csv": SSLPretrainer.from_csv(tmp_path / "long.csv", test=20, **COLUMNS),
        "frame": SSLPretrainer.from_data_frame(long, **COLUMNS),
        "wide": SSLPretrainer.from_data_frame(wide, time="day", backbone="patchtsmixer"),
        "arrays": SSLPretrainer.from_arrays(arrays, backbone="patchtst", context=40),
        "data": SSLPretrainer.from_data(data),
        "unlabelled": SSLPretrainer.from_data(UnlabelledSeries.from_data(data)),
    }
    lengths = {name: pre.data.table.lengths.tolist() for name, pre in made.items()}
    assert lengths == {
        "csv": [100, 100], "frame": [120, 120], "wide": [120, 120], "arrays": [120, 120],
        "data": [80, 80], "unlabelled": [80, 80],
    }  # fmt: skip
    sees: dict[str, Any] = {name: pre.input_spec for name, pre in made.items()}
    assert sees["frame"].context_steps == 30  # a quarter of the series
    assert sees["csv"].context_steps == 25
    assert sees["arrays"].context_steps == 40
    assert {pre.method.name for pre in made.values()} == {"masked_patches"}
    assert {pre.precision for pre in made.values()} == {"32-true"}
    assert made["wide"].backbone.config["name"] == "patchtsmixer"
    assert (made["csv"].spec.time, made["csv"].spec.target) == ("day", ("sales",))


def test_parquet_is_read_where_there_is_a_reader(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame().to_parquet(tmp_path / "long.parquet")
    pre = SSLPretrainer.from_parquet(tmp_path / "long.parquet", **COLUMNS)
    assert pre.data.table.ids == ("a", "b")


def test_too_few_steps_are_an_error_before_anything_is_trained() -> None:
    with pytest.raises(DataError, match="No series has the 200 steps"):
        SSLPretrainer.from_data_frame(frame(), context=200, **COLUMNS)
    with pytest.raises(BackboneError, match="'nlinear' has no encoder"):
        SSLPretrainer.from_data_frame(frame(), backbone="nlinear", **COLUMNS)


def test_arguments_of_another_kind_of_input_are_named(tmp_path: Path) -> None:
    pictures = np.zeros((4, 16, 16, 3), np.uint8)
    paths = pd.DataFrame({"path": ["a.jpg"]})
    with pytest.raises(InvalidValueError, match=r"time='day', test=3: of series"):
        SSLPretrainer.from_data_frame(paths, image="path", time="day", test=3)
    with pytest.raises(InvalidValueError, match=r"root='photos': of pictures"):
        SSLPretrainer.from_data_frame(frame(), root="photos", **COLUMNS)
    with pytest.raises(InvalidValueError, match=r"on_error='raise': of pictures"):
        SSLPretrainer.from_arrays([np.arange(99.0)], backbone="patchtst", on_error="raise")
    with pytest.raises(InvalidValueError, match=r"ids=\['a'\]: of series"):
        SSLPretrainer.from_arrays(pictures, ids=["a"])
    with pytest.raises(InvalidValueError, match=r"size=32: of pictures; these are series"):
        SSLPretrainer.from_data_frame(frame(), size=32, **COLUMNS)
    with pytest.raises(InvalidValueError, match=r"context=9: the steps of a window of series"):
        SSLPretrainer.from_arrays(pictures, backbone="mealkit_tiny", context=9)
    with pytest.raises(InvalidValueError, match=r"context=9: the steps of a window of series"):
        SSLPretrainer("mealkit_tiny_text", context=9)


def test_a_method_for_other_inputs_is_named_and_not_the_backbone() -> None:
    with pytest.raises(InvalidValueError, match=r"method='simclr' learns from pictures.* mlm\."):
        SSLPretrainer.from_texts(["a text"], method="simclr", backbone="mealkit_tiny_text")
    with pytest.raises(InvalidValueError, match=r"method='mlm' learns from texts.*patches\."):
        SSLPretrainer.from_data_frame(frame(), method="mlm", **COLUMNS)
    with pytest.raises(InvalidValueError, match="method='mlm' learns from texts, and these are p"):
        SSLPretrainer.from_arrays(np.zeros((4, 16, 16, 3), np.uint8), method="mlm")


def test_methods_are_listed_by_kind() -> None:
    assert SSLPretrainer.methods("series") == ["masked_patches"]
    assert SSLPretrainer.methods("text") == ["mlm"]
    assert "mlm" not in SSLPretrainer.methods("image")
    with pytest.raises(UnknownNameError, match="kind of input 'sound'"):
        SSLPretrainer.methods("sound")

"""Every defect of a table, with every family of backbones and with covariates: never NaN out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.errors import DataError

HORIZON = 6
ROLES = {"time": "date", "target": "sales", "series": "shop"}
COVARIATES = {"static": "kind", "past": "orders", "future": ["promo", "event"]}
FAMILIES = {
    "ridge": {},
    "resmlp": {"width": 8, "num_blocks": 1},
    "nhits": {},
    "tide": {},
    "tsmixer": {},
    "itransformer": {},
    "deepar": {},
    "patchtst": {"d_model": 8, "ffn_dim": 8, "num_hidden_layers": 1},
    "patchtsmixer": {"d_model": 8, "num_layers": 1},
    "timesfm": {},
}


def shops(count: int = 150) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for number, shop in enumerate("abc"):
        steps = np.arange(count - 20 * number)
        promo = (rng.random(len(steps)) < 0.2).astype(float)
        sales = 20 * (number + 1) + 5 * np.sin(steps * 2 * np.pi / 24) + 3 * promo
        columns = {
            "date": pd.date_range("2024-01-01", periods=len(steps), freq="h"),
            "shop": shop,
            "sales": sales + rng.normal(0, 0.5, len(steps)),
            "orders": rng.normal(50, 5, len(steps)),
            "promo": promo,
            "event": np.where(steps % 9 == 0, "fair", ""),
            "kind": ["store", "kiosk", "store"][number],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def defects() -> dict[str, pd.DataFrame]:
    frame = shops()
    first, stamps = frame["shop"] == "a", frame["date"]
    late = frame.groupby("shop").cumcount(ascending=False) < 10
    return {
        "hole": frame[~(first & stamps.between("2024-01-03", "2024-01-04"))],
        "hole at the end": frame.drop(index=range(125, 148)),
        "missing": frame.assign(sales=frame["sales"].where(frame.index % 7 > 0)),
        "infinite": frame.assign(sales=frame["sales"].where(frame.index % 50 > 0, np.inf)),
        "constant": frame.assign(sales=frame["sales"].where(~first, 4.0)),
        "all constant": frame.assign(sales=4.0),
        "short": frame[~first | (stamps < "2024-01-01 09:00")],
        "single point": frame[~first | (stamps < "2024-01-01 01:00")],
        "unsorted": frame.sample(frac=1, random_state=0),
        "huge": frame.assign(sales=frame["sales"] * 1e30),
        "missing covariates": frame.assign(
            orders=frame["orders"].where(frame.index % 3 > 0, np.nan),
            promo=frame["promo"].where(frame.index % 4 > 0, np.inf),
        ),
        "covariates that begin late": frame.assign(
            orders=frame["orders"].where(stamps > "2024-01-03"),
            promo=frame["promo"].where(stamps > "2024-01-03"),
        ),
        "covariates of one series alone": frame.assign(
            orders=frame["orders"].where(frame["shop"] == "a"),
            promo=frame["promo"].where(frame["shop"] == "a"),
        ),
        "constant covariates": frame.assign(orders=7.0, promo=1.0, event="fair"),
        "huge covariates": frame.assign(orders=frame["orders"] * 1e30, promo=1e300),
        "covariates that change at last": frame.assign(promo=late.astype(float)),
    }


def backbone(family: str, data: SeriesData, folder) -> object:
    if family == "ridge":
        return "ridge"
    if family != "timesfm":
        return mealkit.backbones.create(
            family, data.spec, preprocessing={"context_steps": 24}, options=FAMILIES[family]
        )
    torch.manual_seed(0)
    config = transformers.TimesFm2_5Config(
        num_hidden_layers=1, hidden_size=16, intermediate_size=16, head_dim=8,
        num_attention_heads=2, num_key_value_heads=2, context_length=64, horizon_length=8,
        output_quantile_len=8,
    )  # fmt: skip
    transformers.TimesFm2_5ModelForPrediction(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("defect", defects())
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_no_defect_leads_to_a_forecast_that_is_no_number(defect, family, tmp_path, monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 2)
    frame = defects()[defect]
    data = SeriesData.from_data_frame(frame, horizon=HORIZON, season=24, **ROLES, **COVARIATES)
    task = Forecaster.from_data(data, backbone=backbone(family, data, tmp_path / "net"))
    if family == "ridge":
        task.finetune()
    elif family != "timesfm":
        task.finetune(epochs=1, batch_size=8, refit=False)
    ends = dict(zip(data.table.ids, data.table.last, strict=True))
    future = pd.concat(
        pd.DataFrame(
            {
                "shop": shop,
                "date": pd.date_range(ends[shop], periods=HORIZON + 1, freq="h")[1:],
                "promo": 1.0,
                "event": "fair",
            }
        )
        for shop in ends
    )
    answer = task.predict(future=future)
    assert set(answer.series) == {"a", "b", "c"}
    assert np.isfinite(answer.mean).all()
    assert np.isfinite(answer.quantiles).all()
    assert (np.diff(answer.quantiles, axis=2) >= 0).all()
    row = answer.series.index("a")
    if "constant" in defect and "covariates" not in defect:
        assert answer.mean[row] == pytest.approx([4] * HORIZON, abs=0.5)
    if defect == "single point":
        assert answer.model[row] == "naive"
        assert answer.mean[row] == pytest.approx([frame["sales"].iloc[0]] * HORIZON)
    if defect == "short":
        assert answer.model[row] in ("naive", "timesfm-2.5")


def test_covariates_without_a_value_are_refused():
    for name in ("orders", "promo"):
        frame = shops().assign(**{name: np.nan})
        with pytest.raises(DataError, match=f"The covariate '{name}' holds no number in any of"):
            SeriesData.from_data_frame(frame, horizon=HORIZON, **ROLES, **COVARIATES)


def test_doubled_rows_and_wrong_frequencies_are_refused_with_covariates_too():
    frame = shops()
    doubled = pd.concat([frame, frame[3:4].assign(promo=0.5)])
    with pytest.raises(DataError, match="1 doubled times"):
        SeriesData.from_data_frame(doubled, horizon=HORIZON, **ROLES, **COVARIATES)
    with pytest.raises(DataError, match="do not stand on a grid of steps of D"):
        SeriesData.from_data_frame(frame, horizon=HORIZON, frequency="D", **ROLES, **COVARIATES)

"""Covariates: which columns they are, what their cells come to, and what batches hold of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mealkit.data import SeriesData
from mealkit.errors import DataError, InvalidValueError
from mealkit.specs import Covariate, SeriesSpec

ROLES = {"time": "date", "target": "sales", "series": "shop"}


def shops(count: int = 40) -> pd.DataFrame:
    parts = []
    for number, shop in enumerate("ab"):
        days = np.arange(count - 10 * number)
        parts.append(
            pd.DataFrame(
                {
                    "date": pd.date_range("2024-01-01", periods=len(days)),
                    "shop": shop,
                    "sales": 100.0 * number + days,
                    "price": 10.0 * number + days % 7,
                    "rain": 1000.0 + days,
                    "event": np.where(days % 5 == 0, "fair", ""),
                    "kind": ["store", "kiosk"][number],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def read(frame: pd.DataFrame, **more: object) -> SeriesData:
    return SeriesData.from_data_frame(frame, **{"horizon": 3, **ROLES, **more})


def all_kinds(frame: pd.DataFrame, **more: object) -> SeriesData:
    return read(frame, static="kind", past=["rain"], future=["price", "event"], **more)


def batch_of(data: SeriesData, rows: list[int]):
    spec = SeriesSpec(context_steps=4, horizon_steps=3, scaled=False)
    data.prepare(spec.replace_covariates(data.spec.covariates))
    return data.train.__getitems__(rows)


def test_the_spec_names_columns_and_texts_and_measures_what_is_learnt_from():
    data = all_kinds(shops(), val=10)
    spec = data.spec
    assert [c.name for c in spec.static] == ["kind=kiosk", "kind=store"]
    assert [c.name for c in spec.past] == ["rain"]
    assert [c.name for c in spec.future] == ["price", "event=fair"]
    learnt = shops().groupby("shop").head(30)
    learnt = learnt[~((learnt["shop"] == "b") & (learnt["rain"] >= 1020))]
    for covariate, column in ((spec.past[0], "rain"), (spec.future[0], "price")):
        assert covariate.center == pytest.approx(learnt[column].mean())
        assert covariate.spread == pytest.approx(learnt[column].std(ddof=0))


def test_batches_hold_what_the_rows_of_a_window_say():
    frame = shops()
    data = all_kinds(frame, val=0)
    batch = batch_of(data, [0, 57])
    a, b = (part.reset_index(drop=True) for _, part in frame.groupby("shop"))
    for row, part, origin in ((0, a, 4), (1, b, 27)):
        assert batch["past"][row].tolist() == part["sales"][origin - 4 : origin].tolist()
        rain, price, fair = (data.spec.past[0], *data.spec.future)
        past = (part["rain"][origin - 4 : origin] - rain.center) / rain.spread
        assert batch["past_covariates"][row, :, 0].tolist() == pytest.approx(past.tolist(), 1e-5)
        window = slice(origin - 4, origin + 3)
        prices = (part["price"][window] - price.center) / price.spread
        fairs = ((part["event"][window] == "fair") - fair.center) / fair.spread
        expected = np.stack([prices, fairs], axis=1)
        assert np.allclose(batch["future_covariates"][row], expected, atol=1e-5)
    assert batch["static"].tolist() == [[-1, 1], [1, -1]]
    assert {"static", "past_covariates", "future_covariates"} <= set(batch)


def test_only_what_a_backbone_wants_is_in_batches():
    data = all_kinds(shops(), val=0)
    wanted = {"future": data.spec.future[1:]}
    spec = SeriesSpec(context_steps=4, horizon_steps=3)
    data.prepare(spec.replace_covariates(wanted))
    batch = data.train.__getitems__([0])
    assert batch["future_covariates"].shape == (1, 7, 1)
    assert not {"static", "past_covariates"} & set(batch)


def test_a_net_with_other_covariates_is_refused_before_the_first_batch():
    spec = SeriesSpec(context_steps=4, horizon_steps=3, future=(Covariate(column="wind"),))
    with pytest.raises(InvalidValueError, match="covariate 'wind', and the data have 'price'"):
        all_kinds(shops()).prepare(spec)
    with pytest.raises(InvalidValueError, match="covariate 'wind', and the data have none"):
        read(shops()[[*ROLES.values()]]).prepare(spec)


def test_rows_without_a_target_say_what_is_known_ahead():
    frame = shops()
    frame.loc[frame["date"] > "2024-02-05", ["sales", "rain"]] = np.nan  # the last 4 of shop a
    table = all_kinds(frame, val=0).table
    assert table.lengths.tolist() == [36, 30]
    assert np.diff(table.covariates.offsets).tolist() == [40, 30]
    assert len(table.covariates.past) == 66
    assert table.covariates.future[36:40, 0].tolist() == [1, 2, 3, 4]
    cut = table.cut(np.array([20, 0]))
    assert len(cut.covariates.past) == 20
    assert np.array_equal(cut.covariates.future, table.covariates.future[:40])


def test_gaps_are_filled_from_before_and_reported():
    frame = shops()
    frame.loc[[12, 13], "price"] = np.nan
    frame.loc[15, "price"] = np.inf
    frame = frame.drop(index=[20])
    data = all_kinds(frame, val=0)
    prices = data.table.covariates.future[:40, 0]
    assert prices[[12, 13, 15, 20]].tolist() == [4, 4, 0, 5]  # those of 11, 14 and 19
    assert data.table.covariates.future[20, 1] == 0  # no event lasts where there is no row
    problems = [entry.problem for entry in data.report.entries]
    assert "4 of 40 steps of 'price' are missing; taken as they were before" in problems


def test_what_is_missing_from_the_start_counts_as_the_mean():
    frame = shops()
    frame.loc[:5, "rain"] = np.nan
    batch = batch_of(all_kinds(frame, val=0), [0])
    assert batch["past_covariates"][0].tolist() == [[0]] * 4


def test_nothing_later_reaches_past_covariates():
    frame = shops()
    frame.loc[10:12, "rain"] = np.nan
    later = frame.assign(rain=frame["rain"].where(frame.index < 13, 5.0))
    for table in (frame, later):
        assert all_kinds(table, val=0).table.covariates.past[:13, 0].max() == 1009


def test_doubled_rows_are_averaged_with_their_covariates():
    frame = shops()
    more = frame[5:6].assign(sales=9.0, price=8.0)
    data = all_kinds(pd.concat([frame, more]), val=0, duplicates="mean")
    assert data.table.covariates.future[5, 0] == (5 + 8) / 2
    data = all_kinds(pd.concat([frame, more]), val=0, duplicates="last")
    assert data.table.covariates.future[5, 0] == 8


def test_unsorted_rows_keep_their_covariates():
    mixed = all_kinds(shops().sample(frac=1, random_state=1), val=0).table
    table = all_kinds(shops(), val=0).table
    numbers = [mixed.ids.index(id) for id in table.ids]
    sorted_again = mixed.covariates.static[numbers]
    assert np.array_equal(sorted_again, table.covariates.static)
    assert np.array_equal(
        np.sort(mixed.covariates.past, axis=0), np.sort(table.covariates.past, axis=0)
    )


def test_columns_of_a_wide_table_and_of_several_targets_are_shared():
    wide = pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=30),
            "a": np.arange(30.0),
            "b": np.arange(30.0),
            "price": np.arange(30.0) % 4,
        }
    )
    data = SeriesData.from_data_frame(wide, horizon=3, future="price")
    assert data.table.ids == ("a", "b")
    long = shops().assign(returns=1.0)
    several = read(long, target=["sales", "returns"], future="price")
    assert several.table.ids == ("a/sales", "b/sales", "a/returns", "b/returns")
    for table in (data.table, several.table):
        future = table.covariates.future[:, 0]
        assert np.array_equal(future[: len(future) // 2], future[len(future) // 2 :])


def test_series_in_rows_have_static_covariates_only():
    rows = pd.DataFrame(np.arange(40.0).reshape(2, 20)).add_prefix("V")
    rows.insert(0, "name", ["a", "b"])
    rows.insert(1, "kind", ["store", "kiosk"])
    data = SeriesData.from_data_frame(rows, horizon=3, static="kind")
    assert data.table.covariates.static.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match=r"'V3' changes over time, but each row .* whole series"):
        SeriesData.from_data_frame(rows, horizon=3, static="kind", past="V3")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"past": ["ran"]}, r"no column 'ran'\. Did you mean 'rain'"),
        ({"past": "sales"}, "'sales' is a covariate and also the time, the series or the target"),
        ({"static": "rain"}, "'rain' is not the same in all rows of the series 'a': .* 1000 and"),
        ({"static": "event", "past": ()}, "'event' is not the same .* different texts"),
        ({"future": "day"}, "'day' holds times; expected numbers or texts"),
        ({"future": "note"}, r"'note' holds 70 different texts .* at most 50"),
        ({"future": "mixed"}, "column 'mixed' hold no number .row 3: 'dear'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(more, words):
    frame = shops()
    days = frame["date"].astype(str)
    frame["day"], frame["note"] = days, [f"note {row} x" for row in range(len(frame))]
    frame["mixed"] = frame["price"].astype(object)
    frame.loc[3, "mixed"] = "dear"
    frame.loc[frame["shop"] == "b", "event"] = "fair"
    frame.loc[5, "event"] = "market"
    with pytest.raises(DataError, match=words):
        read(frame, **more)


def test_a_column_is_named_once():
    with pytest.raises(InvalidValueError, match="'price' was given twice"):
        read(shops(), past="price", future=["price"])


def test_one_line_says_which_columns_are_covariates(caplog):
    with caplog.at_level("INFO", "mealkit"):
        all_kinds(shops())
    assert "static 'kind', past 'rain', future 'price', 'event')" in caplog.messages[0]

"""Every benchmark runs from its command, on a few drawn pictures; the numbers are not judged."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mealkit.backbones import create

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def run_quickly(name: str, tmp_path: Path, *more: str) -> tuple[dict, str]:
    """Run a benchmark as its first lines say, and answer with its raw results and its report."""
    file = tmp_path / "raw.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), "--quick", "--no-peer", "--json", file, *more],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    known = results["environment"]
    assert known["quick"]
    assert known["cpu"]
    assert known["versions"]["torch"]
    assert known["command"].startswith(f"python benchmarks/{name} --quick")
    assert f"`{known['command']}`" in done.stdout
    assert "|---|" in done.stdout
    assert "these are no results" in done.stdout
    return results, done.stdout


@pytest.mark.slow
def test_freeze_counts_one_backbone_pass_per_image(tmp_path: Path) -> None:
    results, _ = run_quickly("image_freeze.py", tmp_path)
    (run,) = results["runs"]["mealkit"]
    assert run["num_images"] == 24
    assert run["forwards_per_image"] == 1
    assert len(run["epoch_seconds"]) == 3
    assert 0 <= run["accuracy"] <= 1
    summary = results["summary"]
    assert summary["forwards_per_image"] == 1
    assert summary["accuracy"] == run["accuracy"]
    later = max(run["epoch_seconds"][1:]) / run["epoch_seconds"][0]
    assert summary["later_epochs_over_first"] == pytest.approx(later)
    assert 0 < sum(run["epoch_seconds"]) <= run["seconds"]


@pytest.mark.slow
def test_finetune_measures_ours_and_an_untrained_net(tmp_path: Path) -> None:
    results, _ = run_quickly("image_finetune.py", tmp_path)
    assert set(results["runs"]) == {"ours", "scratch"}
    for runs in results["runs"].values():
        assert len(runs) == 1
        assert len(runs[0]["epoch_seconds"]) == 5
        assert runs[0]["peak_mib"] > 100
    assert 0 <= results["summary"]["ours"]["accuracy"] <= 1


@pytest.mark.slow
def test_finetune_options_reach_the_run_and_select_leaves_test_alone(tmp_path: Path) -> None:
    more = ("--only", "ours", "--select", "--epochs", "2", "--lr", "0.0123", "--strategy", "full")
    more += ("--augment", "none", "--label-smoothing", "0", "--batch-size", "8")
    results, report = run_quickly("image_finetune.py", tmp_path, *more)
    (run,) = results["runs"]["ours"]
    assert run["lr"] == 0.0123
    assert len(run["epoch_seconds"]) == 2
    assert run["forwards_per_image"] == 2
    assert run["accuracy"] == max(run["val_accuracies"])
    assert "validation accuracy" in report
    assert "test accuracy" not in report


@pytest.mark.slow
def test_full_measures_the_epoch_and_the_step_of_every_side(tmp_path: Path) -> None:
    results, _ = run_quickly("image_full.py", tmp_path)
    epoch, step = results["runs"]["epoch"], results["runs"]["step"]
    assert set(epoch) == {"mealkit", "same", "plain"}
    assert set(step) == {"mealkit", "plain"}
    for runs in (epoch, step):
        assert all(run["peak_mib"] > 100 for side in runs.values() for run in side)
    assert all(side[0]["num_images"] == 24 for side in epoch.values())
    assert epoch["mealkit"][0]["forwards_per_image"] == 1
    assert step["plain"][0]["precision"] == epoch["plain"][0]["precision"] == "32-true"
    assert epoch["same"][0]["precision"] == epoch["mealkit"][0]["precision"]
    ratio = epoch["mealkit"][0]["seconds"] / epoch["same"][0]["seconds"]
    assert results["summary"]["epoch"]["same"]["seconds_ratio"] == pytest.approx(ratio)


@pytest.mark.slow
def test_balance_scores_each_way_to_train_on_rare_classes(tmp_path: Path) -> None:
    results, report = run_quickly("image_balance.py", tmp_path, "--strategies", "freeze")
    assert [run["balance"] for run in results["runs"]] == [None, "weights", "sampler"]
    for run, row in zip(results["runs"], results["summary"], strict=True):
        assert row["macro_f1"] == run["macro_f1"]  # of one seed
        rise = run["macro_f1"] - results["runs"][0]["macro_f1"]
        assert row["rise"] == pytest.approx(100 * rise)
        assert 0 <= run["recall"] <= 1
    assert "8 blue and 2 green" in report


@pytest.mark.slow
def test_predict_agrees_with_a_plain_loop_at_fp32(tmp_path: Path) -> None:
    results, _ = run_quickly("image_predict.py", tmp_path)
    summary = results["summary"]
    assert set(summary) == {"mealkit", "mealkit fp32", "plain loop"}
    assert summary["mealkit fp32"]["same_labels"] >= 0.995
    assert summary["plain loop"]["same_labels"] == 1
    assert summary["plain loop"]["num_classes_answered"] >= 5  # else agreement would say nothing
    assert summary["mealkit"]["mealkit_times_as_fast"] == 1
    assert all(values["images_per_second"] > 0 for values in summary.values())


@pytest.mark.slow
def test_decode_compares_pixels_and_counts_cpu_seconds(tmp_path: Path) -> None:
    results, _ = run_quickly("image_decode.py", tmp_path)
    summary, runs = results["summary"], results["runs"]
    assert set(summary) == {"mealkit", "torchvision, tensor", "torchvision, PIL"}
    assert all(run["num_images"] == 24 for side in runs.values() for run in side)
    assert all(values["most_levels_apart"] <= 1 for values in summary.values())
    (ours,), (theirs,) = runs["mealkit"], runs["torchvision, PIL"]
    ratio = theirs["cpu_seconds"] / ours["cpu_seconds"]
    assert summary["torchvision, PIL"]["mealkit_times_as_fast"] == pytest.approx(ratio)
    # Both normalise alike: the sums of a pixel of each picture agree to a level each.
    assert abs(ours["checksum"] - theirs["checksum"]) <= 24 * 3 / 255 / 0.224


@pytest.mark.slow
def test_views_are_compared_with_pictures_as_they_are(tmp_path: Path) -> None:
    results, _ = run_quickly("image_views.py", tmp_path)
    summary = results["summary"]["4"]
    assert set(summary) >= {"none", "light, 1 views", "light, 16 views"}
    assert summary["none"]["gain"] == 0
    for name, values in summary.items():
        gain = values["accuracy"] - summary["none"]["accuracy"]
        assert values["gain"] == pytest.approx(gain), name


@pytest.mark.slow
def test_forecasts_are_measured_by_three_protocols(tmp_path: Path) -> None:
    results, _ = run_quickly("forecast_baselines.py", tmp_path)
    runs = results["runs"]
    (long,) = runs["long"].values()
    assert long["num_windows"] == 1_200 // 5 - 24 + 1
    assert 0 < long["mse"] < long["naive_mse"]
    assert runs["fev"]["ridge"]["mase"] < runs["fev"]["seasonal-naive"]["mase"]
    assert {"quality fast", "quality best"} <= runs["fev"].keys() & runs["m4"].keys()
    assert runs["m4"]["naive2"]["owa"] == pytest.approx(1)


@pytest.mark.slow
def test_learning_without_labels_is_scored_before_and_after(tmp_path: Path) -> None:
    more = ("--methods", "simclr", "mae", "--epochs", "1")
    results, report = run_quickly("ssl_images.py", tmp_path, *more)
    for method in ("simclr", "mae"):
        (run,) = results["runs"][method]
        assert run["num_steps"] == 2
        assert run["cpu_seconds"] > 0
        for when in ("before", "after"):
            assert 0 <= run[when]["knn"] <= 1
            assert 0 <= run[when]["linear"] <= 1
        assert f"| {method} |" in report


@pytest.mark.slow
def test_nets_are_measured_by_two_protocols(tmp_path: Path) -> None:
    results, _ = run_quickly("forecast_nets.py", tmp_path, "--nets", "resmlp")
    runs = results["runs"]
    assert set(runs["long"]) == {"nlinear, 24", "dlinear, 24"}
    assert all(0 < run["mse"] < run["naive_mse"] for run in runs["long"].values())
    assert set(runs["m4"]) == {"naive2", "resmlp"}
    assert runs["windows"]["mealkit"]["windows_per_second"] > 0
    assert runs["windows"]["mealkit"]["shapes"] == [[48], [24]]


def test_a_benchmark_without_its_data_says_where_to_put_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "image_freeze.py"), "--shared", tmp_path, "--no-peer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cifar10-subset.zip is absent" in done.stderr


@pytest.mark.slow
def test_augment_scores_every_preset_on_every_kind_of_pictures(tmp_path: Path) -> None:
    results, report = run_quickly("image_augment.py", tmp_path, "--epochs", "2")
    assert len(results["runs"]) == 15
    assert {run["kind"] for run in results["runs"]} == {"digits", "CIFAR-10", "photos"}
    photos = [run["accuracy"] for run in results["runs"] if run["kind"] == "photos"]
    assert max(photos) > 0.5, "one of three"
    assert "| photos | heavy |" in report


@pytest.mark.slow
def test_lora_is_scored_at_every_rate_on_every_net(tmp_path: Path) -> None:
    results, report = run_quickly("rates.py", tmp_path, "--rates", "2e-3", "2e-2")
    runs = results["runs"]
    assert len(runs) == 6
    assert {run["kind"].split(",")[0] for run in runs} == {"digits", "CIFAR-10", "Banking77"}
    assert max(run["accuracy"] for run in runs if run["kind"].startswith("digits")) > 0.5
    assert "| digits, mealkit_tiny | 0.02 |" in report


@pytest.mark.slow
def test_multilabel_scores_the_same_probabilities_by_both_thresholds(tmp_path: Path) -> None:
    results, report = run_quickly("image_multilabel.py", tmp_path)
    (run,) = results["runs"]
    assert len(run["thresholds"]) == 3
    for score in ("macro_f1", "micro_f1", "accuracy"):
        assert {"0.5", "tuned"} == set(run[score])
    assert 0.5 < run["map"] <= 1
    assert "| macro_f1 | tuned |" in report


@pytest.mark.slow
def test_text_finetune_trains_the_sides_at_hand_and_counts_padding(tmp_path: Path) -> None:
    results, report = run_quickly("text_finetune.py", tmp_path, "--shots", "8", "--epochs", "2")
    assert set(results["summary"]) == {"mealkit", "mealkit, fp32", "mealkit, bf16"}
    assert results["summary"]["mealkit"]["accuracy"] > 0.3
    assert list(results["padding"].values()) == [0, 0, 0], "made-up texts are of one length"
    assert "Padding of an epoch" in report


@pytest.mark.slow
def test_text_contrastive_runs_the_sides_at_hand(tmp_path: Path) -> None:
    results, report = run_quickly("text_contrastive.py", tmp_path, "--shots", "4", "--steps", "5")
    budget = "mealkit contrastive, as many texts"  # two batches of 64 are five of 32, or nearly
    assert set(results["summary"]) == {"mealkit freeze", "mealkit contrastive", budget}
    (contrastive,) = results["runs"]["mealkit contrastive"]
    (frozen,) = results["runs"]["mealkit freeze"]
    assert frozen["forwards_per_text"] == 1 < contrastive["forwards_per_text"]
    assert "Banking77 with few labels" in report


@pytest.mark.slow
def test_text_frozen_counts_one_pass_per_text_and_encodes_alike(tmp_path: Path) -> None:
    results, report = run_quickly("text_frozen.py", tmp_path, "--shots", "4", "--repeats", "1")
    (drawn,) = results["runs"]["accuracy"]["4 a class"]
    (whole,) = results["runs"]["accuracy"]["all"]
    assert drawn["forwards_per_text"] == whole["forwards_per_text"] == 1
    assert results["summary"]["accuracy"]["all"]["accuracy"] == whole["accuracy"] > 0.5
    assert set(results["summary"]["encoding"]) == {"mealkit", "mealkit fp32"}
    assert "Encoding 24 texts" in report


@pytest.mark.slow
def test_views_of_every_side_are_counted(tmp_path: Path) -> None:
    results, report = run_quickly("ssl_views.py", tmp_path)
    sides = results["summary"]["32"]
    assert set(sides) == {"mealkit", "torchvision, Pillow", "torchvision, tensors"}
    assert sides["mealkit"]["times"] == 1
    for side, values in sides.items():
        (run,) = results["runs"]["32"][side]
        assert values["speed"] == run["views_per_second"] > 0
    assert "Two SimCLR views" in report


@pytest.mark.slow
def test_semi_supervised_scores_every_method_on_the_same_draw(tmp_path: Path) -> None:
    results, report = run_quickly("semi_supervised.py", tmp_path, "--num-labels", "20")
    sides = results["runs"]["20"]
    assert set(sides) == {"labels alone", "fixmatch", "freematch", "mean_teacher"}
    assert all(0 <= run["accuracy"] <= 1 for runs in sides.values() for run in runs)
    alone, other = (sides[side][0]["accuracy"] for side in ("labels alone", "freematch"))
    assert results["summary"]["20"]["freematch"]["gain"] == pytest.approx(other - alone)
    assert sides["mean_teacher"][0]["unlabelled/mask_rate"] == 1
    assert "Digits, test accuracy" in report


@pytest.mark.slow
def test_semi_supervised_texts_score_every_method_on_the_same_draw(tmp_path: Path) -> None:
    results, report = run_quickly("semi_supervised_text.py", tmp_path, "--epochs", "1")
    sides = {"frozen", "labels alone", "fixmatch", "freematch", "mean_teacher"}
    assert set(results["runs"]) == sides
    (alone,) = results["runs"]["labels alone"]
    for side, (result,) in results["runs"].items():
        gain = result["accuracy"] - alone["accuracy"]
        assert results["summary"][side]["gain"] == pytest.approx(gain)
        assert f"| {side} |" in report
    assert results["runs"]["mean_teacher"][0]["unlabelled/mask_rate"] == 1


@pytest.mark.slow
def test_few_labels_pair_both_nets_and_keep_the_pretrained_one(tmp_path: Path) -> None:
    more = ("--pretrain-epochs", "1", "--fractions", "0.5", "--kept", "kept")
    results, report = run_quickly("ssl_labels.py", tmp_path, *more)
    assert {(run["backbone"], run["num_labels"]) for run in results["runs"]} == {
        ("untrained", 12),
        ("pretrained", 12),
    }
    accuracy = {run["backbone"]: run["accuracy"] for run in results["runs"]}
    (gain,) = results["summary"]
    assert gain["gain"] == pytest.approx(accuracy["pretrained"] - accuracy["untrained"])
    assert results["pretraining"]["cpu_seconds"] > 0
    assert "Few labels" in report
    chosen, report = run_quickly("ssl_labels.py", tmp_path, *more, "--select")
    assert chosen["pretraining"]["read"].endswith("kept/mealkit_resnet8-simclr-1")
    assert len(chosen["selection"]) == 6
    assert "runs" not in chosen


@pytest.mark.slow
def test_the_step_is_measured_on_the_net_that_comes_with_mealkit(tmp_path: Path) -> None:
    results, report = run_quickly("ssl_step.py", tmp_path)
    assert set(results["summary"]) == {"mealkit", "own loop, mealkit's views"}
    assert results["summary"]["mealkit"]["times"] == 1
    for runs in results["runs"].values():
        assert runs[0]["steps"] == 5
        assert runs[0]["images_per_second"] > 0
    assert "The SimCLR step" in report
    spec = importlib.util.spec_from_file_location("step", BENCHMARKS / "sides/simclr_step.py")
    side = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(side)
    own, ours = side.resnet8(), create("mealkit_resnet8").net
    assert [p.shape for p in own.parameters()] == [p.shape for p in ours.parameters()]
    for theirs, given in zip(own.parameters(), ours.parameters(), strict=True):
        theirs.data.copy_(given.data)
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(own.eval()(images), ours.eval()(images).mean((2, 3)), atol=1e-5)


@pytest.mark.slow
def test_weights_without_labels_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    more = ("--pretrain-epochs", "1", "--kept", "kept")
    results, report = run_quickly("ssl_tiny.py", tmp_path, *more)
    assert set(results["runs"]) == {"random", "shipped, with labels", "SimCLR, 1 epochs"}
    for scores in results["runs"].values():
        assert scores["digits"]["linear"] > 0.5, "chance is 0.1"
    assert (tmp_path / "kept/mealkit_tiny-simclr-1/task.json").is_file()
    assert "Weights of mealkit_tiny" in report


@pytest.mark.slow
def test_ssl_series_scores_every_forecaster_on_the_same_windows(tmp_path: Path) -> None:
    asked = ("--parts", "12 months", "1 month")
    results, report = run_quickly("ssl_series.py", tmp_path, *asked)
    (pretraining,) = results["runs"].pop("pretraining")
    assert len(pretraining["losses"]) == 1
    arms = {"linear, untrained", "linear, pretrained", "scratch", "finetune"}
    parts = ("12 months", "1 month")
    assert set(results["runs"]) == {f"{part}, {arm}" for part in parts for arm in arms}
    for (run,) in results["runs"].values():
        assert 0 < run["mse"] < 10
        assert run["num_windows"] == 240 - 12 + 1
    assert "| 1 month | finetune |" in report

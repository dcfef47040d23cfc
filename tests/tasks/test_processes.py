"""Several processes come to what one comes to: weights, metrics, predictions, files, lines."""

import logging
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)

from mealkit import ImageClassifier
from mealkit.errors import InvalidValueError
from mealkit.log import FallbackHandler
from mealkit.tasks.processes import Messenger, OwnChance, allow_frozen_blocks, gather_predictions
from mealkit.tasks.record import Recorder

SCRIPT = Path(__file__).parent / "two_processes.py"
STRATEGIES = ("freeze_unfreeze", "gradual", "freeze", "full")


def start(*command: str | Path, cache: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MEALKIT_CACHE": str(cache or "")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What either of two processes found that torchrun started; one start for all tests."""
    folder = tmp_path_factory.mktemp("both")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    start(*launcher, SCRIPT, folder, cache=folder / "cache")
    found = [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in (0, 1)]
    for one in found:
        one["folder"] = folder
    return found


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_weights_are_equal_on_both_and_those_of_one_process(both, strategy: str) -> None:
    first, second = (found[strategy]["weights"] for found in both)
    assert apart(first, second) == 0
    assert apart(first, both[0][strategy]["alone"]) < 1e-5


@pytest.mark.slow
def test_several_labels_come_to_the_same_weights_metrics_and_thresholds(both) -> None:
    first, second = (found["several"] for found in both)
    assert apart(first["weights"], second["weights"]) == 0
    assert apart(first["weights"], first["alone"]) < 1e-5
    assert first["thresholds"] == second["thresholds"]
    assert first["thresholds"] == pytest.approx(first["thresholds_alone"], abs=1e-5)
    for row, expected in zip(first["rows"], first["rows_alone"], strict=True):
        del row["seconds"], expected["seconds"]
        assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_moving_batch_statistics_are_equal_on_both_in_the_end(both) -> None:
    first, second = (found["untrained"] for found in both)
    assert apart(first, second) == 0
    assert first["backbone.net.stem.1.num_batches_tracked"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_history_is_that_of_one_process(both, strategy: str) -> None:
    for found in both:
        rows, alone = found[strategy]["rows"], found[strategy]["rows_alone"]
        assert len(rows) == 3
        for row, expected in zip(rows, alone, strict=True):
            del row["seconds"], expected["seconds"]
            assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_frozen_backbone_runs_once_per_picture_over_both(both) -> None:
    # 36 training pictures; of 13 validation pictures, 7 and 6, and two of padding a validation
    assert sum(found["freeze"]["forwards"] for found in both) == 36 + 13 + 16


@pytest.mark.slow
def test_features_in_a_file_are_shared_and_found_again(both) -> None:
    for found in both:
        for name in ("mapped", "found"):
            assert apart(found[name]["weights"], found["freeze"]["weights"]) == 0
    assert sum(found["mapped"]["forwards"] for found in both) == 36 + 13 + 16
    # Each looks whether the first batch of either part is still the same.
    assert [found["found"]["forwards"] for found in both] == [32 + 13 + 8] * 2
    files = list((both[0]["folder"] / "cache" / "features").iterdir())
    assert [file.suffix for file in files] == [".npy"] * 2


@pytest.mark.slow
def test_processes_share_a_stream_and_score_every_picture_once(both) -> None:
    first, second = (found["streamed"] for found in both)
    assert apart(first["weights"], second["weights"]) == 0
    for one, other in zip(first["seen"], second["seen"], strict=True):
        joint = [index for index in one + other if index >= 0]
        assert len(joint) == len(set(joint)) >= 11  # shards of 7 + 5 and of 3: 8 and 3 of 15
        assert any(index < 0 for index in one + other)
    for found in (first, second):
        for name in ("accuracy", "loss"):
            assert found["row"][f"val/{name}"] == pytest.approx(found["alone"][name], abs=1e-5)


@pytest.mark.slow
def test_the_first_writes_lines_and_folders_alone(both) -> None:
    assert sum("epoch 3/3" in line for line in both[0]["lines"]) == len(STRATEGIES)
    assert {line for line in both[1]["lines"] if "images, 3 classes" not in line} == set()
    for strategy in STRATEGIES:
        names = {path.name for path in (both[0]["folder"] / strategy).iterdir()}
        assert {"settings.json", "history.csv", "finished.json", "task"} <= names
        assert "last.ckpt" not in names


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_on_both(both) -> None:
    for found in both:
        assert found["stopped"] == "stopped"
        assert apart(found["resumed"]["weights"], found["gradual"]["weights"]) == 0
        assert (
            found["resumed"]["rows"][2]["train/loss"] == found["gradual"]["rows"][2]["train/loss"]
        )


@pytest.mark.slow
def test_predictions_are_gathered_in_order_and_scores_count_each_row_once(both) -> None:
    for found in both:
        assert found["predicted"]["index"].tolist() == list(range(13))
        assert torch.allclose(found["predicted"]["probabilities"], found["expected"], atol=1e-6)
        scored = {f"val/{name}": value for name, value in found["scored"].items() if name != "ece"}
        assert found["validated"] == pytest.approx(scored, abs=1e-5)


@pytest.mark.slow
def test_a_fit_in_forked_processes_brings_everything_home(tmp_path: Path) -> None:
    (tmp_path / "fork.py").write_text(
        f"import sys\nsys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import torch, two_processes as two\n"
        "if __name__ == '__main__':\n"
        "    torch.set_num_threads(1)\n"
        "    task, alone = two.make(6), two.make(12)\n"
        "    expected = alone.finetune(epochs=3)\n"
        "    history = task.finetune(trainer=two.trainer('ddp_fork'))\n"
        "    assert history.best_epoch == expected.best_epoch, history\n"
        "    assert len(history) == 3, history\n"
        "    for name, value in alone.state_dict().items():\n"
        "        assert torch.allclose(task.state_dict()[name], value, atol=1e-5), name\n"
        "    assert task.precision == '32-true'\n"
    )
    start(tmp_path / "fork.py")


# In this process.


def part(index: list[int]) -> dict[str, torch.Tensor]:
    return {"index": torch.tensor(index), "probabilities": torch.tensor(index)[:, None] / 10}


def test_predictions_come_in_input_order_and_once_each() -> None:
    gathered = gather_predictions([part([4, 0]), part([2, 0]), part([1])])
    assert gathered["index"].tolist() == [0, 1, 2, 4]
    assert torch.allclose(gathered["probabilities"][:, 0], torch.tensor([0.0, 0.1, 0.2, 0.4]))
    with pytest.raises(InvalidValueError, match="nothing to gather"):
        gather_predictions([])


class _Trains:
    """Stands for a task whose strategy freezes something, or nothing."""

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self._rows = rows

    def schedule(self, trainer):
        return types.SimpleNamespace(num_epochs=len(self._rows), row=self._rows.__getitem__)


def test_ddp_is_told_of_blocks_that_will_be_frozen() -> None:
    def options(rows, **given):
        strategy = DDPStrategy(**given)
        allow_frozen_blocks(_Trains(*rows), types.SimpleNamespace(strategy=strategy))
        return strategy._ddp_kwargs

    assert options([(0.0, 0.0), (1.0, 1.0)]) == {"find_unused_parameters": True}
    assert options([(0.5, 1.0), (0.5, 1.0)]) == {}
    for given in ({"find_unused_parameters": False}, {"static_graph": True}):
        with pytest.raises(InvalidValueError, match="ddp_find_unused_parameters_true"):
            options([(0.0, 1.0)], **given)
    other = types.SimpleNamespace(strategy=SingleDeviceStrategy("cpu"))
    allow_frozen_blocks(_Trains((0.0,)), other)


@pytest.mark.parametrize("kind", [FSDPStrategy, ModelParallelStrategy])
def test_a_trainer_that_shards_weights_is_refused_before_the_first_batch(make_task, kind) -> None:
    task: ImageClassifier = make_task()
    # Lightning builds a Trainer with one of these on GPUs only.
    trainer = types.SimpleNamespace(strategy=kind(), datamodule=task.data)
    task.trainer = trainer
    with pytest.raises(InvalidValueError, match=f"shards the weights.*{kind.__name__}.*'lora'"):
        task.setup("fit")


def test_what_lightning_sends_to_spawned_processes_can_be_sent(photos: Path) -> None:
    task = ImageClassifier.from_folders(photos / "train", backbone="mealkit_tiny")
    task.plan_training(strategy="gradual")
    recorder = Recorder()
    sent = pickle.loads(pickle.dumps((task, [recorder, Messenger(task, recorder)])))
    assert sent[1][1]._task is sent[0]
    assert sent[1][1]._recorder is sent[1][0]


def test_a_messenger_speaks_for_another_process(make_task, tmp_path: Path) -> None:
    task: ImageClassifier = make_task()
    messenger, trainer = Messenger(task, Recorder()), types.SimpleNamespace(is_global_zero=True)
    messenger.on_fit_end(trainer, task)
    assert not messenger._path.exists()  # nothing to bring home from here
    messenger._recorder.rows.append({"epoch": 0, "train/loss": 0.5})
    messenger._home = -1  # as in a process that was forked
    messenger.on_fit_end(trainer, task)
    messenger._recorder.rows.clear()
    rate = task.plan.lr
    task.plan_training(lr="auto")  # as it still is where the test of rates was not run
    assert list(messenger.history().rows) == [{"epoch": 0, "train/loss": 0.5}]
    assert not messenger._path.exists()
    assert (task.plan.lr, task.plan.finds_lr) == (rate, False)


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({}, "known to all\nbroken\n"),
        ({"RANK": "0", "LOCAL_RANK": "0"}, "known to all\nbroken\n"),
        ({"RANK": "2", "LOCAL_RANK": "0"}, "broken\n"),
        ({"SLURM_PROCID": "1"}, "broken\n"),
        ({"LOCAL_RANK": "1"}, "broken\n"),
    ],
)
def test_of_several_processes_the_first_says_what_all_know(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    printed: str,
) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for level, text in ((logging.INFO, "known to all"), (logging.WARNING, "broken")):
        FallbackHandler().emit(logging.LogRecord("mealkit", level, "", 0, text, None, None))
    assert capsys.readouterr().err == printed


def test_processes_draw_apart_and_one_alone_as_it_was_seeded() -> None:
    def draw(world_size: int, rank: int) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            trainer = types.SimpleNamespace(world_size=world_size, global_rank=rank)
            OwnChance(5).on_fit_start(trainer, None)
            return float(torch.rand(()))

    assert draw(2, 0) != draw(2, 1)
    assert draw(2, 1) == draw(2, 1)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert draw(1, 0) == float(torch.rand(()))

"""Precision, quiet Lightning, and the Trainer that is built for the user."""

import logging
import warnings

import pytest
import pytorch_lightning as pl
import torch

from mealkit import Training
from mealkit.errors import UnknownNameError
from mealkit.tasks.training import _warn_of_launcher, quiet_lightning, resolve_precision


@pytest.mark.parametrize(
    ("cuda", "cuda_bf16", "cpu", "expected"),
    [
        (True, True, {}, "bf16-mixed"),
        (True, False, {"amx_bf16": True}, "32-true"),
        (False, False, {"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        (False, False, {"avx512_bf16": True}, "bf16-mixed"),
        (False, False, {"avx512_f": True, "avx512_bf16": False}, "32-true"),
        (False, False, {}, "32-true"),
    ],
)
def test_automatic_precision_is_bf16_only_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool,
    cuda_bf16: bool,
    cpu: dict[str, bool],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)
    assert resolve_precision("auto") == expected


def test_a_forced_precision_is_kept_and_a_wrong_one_refused() -> None:
    assert resolve_precision("16-mixed") == "16-mixed"
    with pytest.raises(UnknownNameError, match="no precision 'fp16'"):
        resolve_precision("fp16")


def test_bf16_and_fp32_agree(make_task) -> None:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    paths = list(task.data.test.ids)
    task.precision = "32-true"
    exact = task.predict(paths).probabilities
    task.precision = "bf16-mixed"
    rough = task.predict(paths).probabilities
    assert not (rough == exact).all(), "bf16 was not used"
    assert abs(rough - exact).max() < 0.05


def test_bf16_training_keeps_fp32_weights(make_task) -> None:
    task = make_task()
    history = task.finetune(epochs=1, strategy="full", precision="bf16-mixed")
    assert task.precision == "bf16-mixed"
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}
    assert torch.tensor(history.rows[0]["train/loss"]).isfinite()


def test_lightning_is_quiet_inside_and_as_before_outside() -> None:
    logger = logging.getLogger("pytorch_lightning")
    level, filters = logger.level, list(warnings.filters)
    with quiet_lightning():
        assert logger.getEffectiveLevel() == logging.WARNING
    assert logger.level == level
    assert warnings.filters == filters
    with pytest.raises(KeyError), quiet_lightning():
        raise KeyError
    assert logger.level == level


def test_settings_reach_the_trainer(make_task) -> None:
    task = make_task()
    seen = {}

    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            seen["accumulate"] = trainer.accumulate_grad_batches
            seen["clip"] = trainer.gradient_clip_val
            groups = trainer.optimizers[0].param_groups
            seen["decay"] = {group["weight_decay"] for group in groups}

    settings = Training(accumulate=3, clip_norm=0.5, weight_decay=0.2)
    task.finetune(epochs=1, strategy="full", training=settings, callbacks=[Look()])
    assert seen == {"accumulate": 3, "clip": 0.5, "decay": {0.0, 0.2}}


def test_label_smoothing_is_in_the_training_loss_and_not_in_validation(make_task) -> None:
    task = make_task()
    batch = {"features": torch.randn(4, task.backbone.num_features), "index": torch.arange(4)}
    batch["target"] = torch.tensor([0, 1, 2, 0])
    torch.nn.init.normal_(task.head[1].weight)
    task.eval().plan_training(training=Training(label_smoothing=0.4))
    logs = torch.log_softmax(task(batch), 1)
    plain = -logs[torch.arange(4), batch["target"]].mean()
    smooth = 0.6 * plain + 0.4 * -logs.mean()
    step = task.objective.step
    assert step(task, batch, training=True).loss.item() == pytest.approx(smooth.item(), abs=1e-6)
    assert step(task, batch, training=False).loss.item() == pytest.approx(plain.item(), abs=1e-6)


def test_stopping_a_run_raises_what_the_user_did_and_keeps_the_best_weights(make_task) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    task = make_task()
    with pytest.raises(KeyboardInterrupt):
        task.finetune(epochs=3, strategy="full", callbacks=[Stop()])
    assert task._best.epoch == 0
    assert task.head[1].weight.abs().sum() > 0
    assert not task.training


def test_processes_that_know_nothing_of_each_other_are_warned_of(
    make_task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for count, rank, said in (("2", "0", True), ("2", "1", False), ("1", "0", False)):
        caplog.clear()
        monkeypatch.setenv("WORLD_SIZE", count)
        monkeypatch.setenv("RANK", rank)
        _warn_of_launcher()
        assert (f"torchrun has started {count} processes" in caplog.text) is said

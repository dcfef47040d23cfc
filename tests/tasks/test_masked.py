"""Masked language modelling: what is hidden, what is asked, and what it changes."""

import copy

import pytest
import torch

from mealkit import TextClassifier
from mealkit.data import TextSamples
from mealkit.errors import BackboneError, InvalidValueError, NoDataError
from mealkit.tasks.masked import MaskedLanguage

NET = "mealkit_tiny_text"


@pytest.fixture
def task() -> TextClassifier:
    return TextClassifier(NET, classes=["a", "b"])


def objective_of(task: TextClassifier, share: float = 0.15) -> MaskedLanguage:
    table = next(m for m in task.backbone.modules() if isinstance(m, torch.nn.Embedding))
    features = task.backbone.num_features
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaskedLanguage(task.input_spec, table, num_features=features, share=share)


def batch_of(task: TextClassifier, texts: list[str]) -> dict[str, torch.Tensor]:
    samples = TextSamples(texts, ids=texts)
    samples.prepare(task.input_spec)
    return samples.__getitems__(range(len(texts)))


def test_marks_and_padding_are_never_hidden(task: TextClassifier) -> None:
    batch = batch_of(task, ["the door", "open the door of the house"])
    marks = objective_of(task)._marks(batch)
    assert marks[:, 0].all(), "the token that starts a text"
    assert marks[batch["attention_mask"] == 0].all()
    words = batch["attention_mask"].sum() - 4  # two texts, each with a start and an end
    assert int((~marks).sum()) == int(words)


def test_fifteen_percent_of_words_are_hidden_most_behind_the_mask(task: TextClassifier) -> None:
    batch = batch_of(task, ["the door of the house is open again today"] * 400)
    collator = objective_of(task)._collator
    with torch.random.fork_rng():
        torch.manual_seed(0)
        marks = objective_of(task)._marks(batch)
        shown, wanted = collator.torch_mask_tokens(batch["input_ids"].clone(), marks)
    hidden = wanted != -100
    assert not (hidden & marks).any()
    assert float(hidden.sum() / (~marks).sum()) == pytest.approx(0.15, abs=0.02)
    masked = shown[hidden] == collator.tokenizer.mask_token_id
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.05)
    assert torch.equal(wanted[hidden], batch["input_ids"][hidden])


def test_a_fresh_head_guesses_at_random_and_nothing_hidden_costs_nothing(
    task: TextClassifier,
) -> None:
    batch = batch_of(task, ["the door of the house"] * 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = objective_of(task, share=0.9).step(task.eval(), batch, training=True).loss
    assert loss.item() > 1
    nothing = objective_of(task, share=0.0).step(task, batch, training=True).loss
    assert nothing.item() == 0


def test_adapting_learns_the_words_of_a_field_and_leaves_the_head_alone(
    task: TextClassifier, tickets
) -> None:
    before = copy.deepcopy(task.backbone.state_dict())
    texts = [text for text, _ in tickets]
    history = task.adapt(texts, epochs=12, lr=2e-3, batch_size=16)
    losses = history.to_frame()["train/loss"]
    assert len(losses) == 12
    assert losses[9:].mean() < losses[:3].mean() - 0.5
    moved = [n for n, v in task.backbone.state_dict().items() if not torch.equal(v, before[n])]
    assert moved
    assert task.head_is_fresh
    assert type(task.objective).__name__ == "Supervised"
    assert not any("transform" in name for name, _ in task.named_parameters())


def test_what_cannot_be_adapted_is_refused(task: TextClassifier) -> None:
    with pytest.raises(NoDataError, match="no texts"):
        task.adapt([])
    for size in (0, "auto"):
        with pytest.raises(InvalidValueError, match=f"batch_size={size!r}: expected"):
            task.adapt(["seven words and one more, as needed"], batch_size=size)
    before = copy.deepcopy(task.backbone.state_dict())
    for texts in (["door"], ["the door", "", "open"]):
        with pytest.raises(NoDataError, match="words in all texts, of which 15% would be"):
            task.adapt(texts)
    assert all(torch.equal(value, before[n]) for n, value in task.backbone.state_dict().items())
    spec = task.input_spec
    maskless = spec.replace({"tokenizer": spec.tokenizer.replace("[MASK]", "[OTHER]")})
    with pytest.raises(BackboneError, match="no token for hidden words"):
        MaskedLanguage(maskless, torch.nn.Embedding(9, 4), num_features=4)

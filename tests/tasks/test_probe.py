"""The head of a frozen backbone against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mealkit.tasks import probe
from mealkit.tasks.probe import PENALTIES, fit_probe, fit_probes


def blobs(num_rows: int, num_classes: int, num_features: int, noise: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_classes, num_features, generator=generator)
    targets = torch.arange(num_rows) % num_classes
    rows = centres[targets] + noise * torch.randn(num_rows, num_features, generator=generator)
    return rows, targets


def test_probe_solves_the_same_problem_as_scikit_learn() -> None:
    features, targets = blobs(300, 3, 8, noise=1.0)
    features = features * torch.logspace(-2, 2, 8) + 5  # scales that standardisation undoes
    probe = fit_probe(features, targets, num_classes=3)
    scaler = StandardScaler().fit(features.numpy())
    # sklearn minimises sum(loss) + |w|^2 / (2 C); ours mean(loss) + penalty |w|^2 / 2.
    oracle = LogisticRegression(C=1 / (probe.penalty * len(targets)), max_iter=2000, tol=1e-8)
    oracle.fit(scaler.transform(features.numpy()), targets.numpy())
    ours = torch.softmax(features @ probe.weight.T + probe.bias, 1).numpy()
    theirs = oracle.predict_proba(scaler.transform(features.numpy()))
    assert np.abs(ours - theirs).max() < 2e-3


def test_penalty_is_strong_for_noise_and_weak_for_clean_data() -> None:
    noisy = fit_probe(*blobs(80, 2, 60, noise=6.0), num_classes=2)
    clean = fit_probe(*blobs(2000, 2, 6, noise=1.5, seed=3), num_classes=2)
    assert noisy.penalty > clean.penalty
    assert {noisy.penalty, clean.penalty} <= set(PENALTIES)


def test_constant_features_change_nothing() -> None:
    features, targets = blobs(90, 3, 5, noise=0.5)
    padded = torch.cat([features, torch.full((90, 2), 7.0)], 1)
    plain, more = (fit_probe(f, targets, num_classes=3) for f in (features, padded))
    assert torch.allclose(plain.weight, more.weight[:, :5], atol=1e-3)
    assert torch.isfinite(more.weight).all()


@pytest.mark.parametrize("num_rows", [2, 3, 5])
def test_few_rows_are_enough(num_rows: int) -> None:
    features, targets = blobs(num_rows, 2, 4, noise=0.1)
    probe = fit_probe(features, targets, num_classes=2)
    assert ((features @ probe.weight.T + probe.bias).argmax(1) == targets).all()


def test_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    fit_probe(*blobs(40, 2, 4, noise=1.0), num_classes=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_count_as_in_scikit_learn() -> None:
    features, targets = blobs(300, 3, 8, noise=2.0)
    weights = torch.where(targets == 0, 2.0, 0.5)
    weights = weights / weights.mean()
    probe = fit_probe(features, targets, num_classes=3, weights=weights)
    scaler = StandardScaler().fit(features.numpy())
    oracle = LogisticRegression(C=1 / (probe.penalty * len(targets)), max_iter=2000, tol=1e-8)
    scaled = scaler.transform(features.numpy())
    oracle.fit(scaled, targets.numpy(), sample_weight=weights.numpy())
    ours = torch.softmax(features @ probe.weight.T + probe.bias, 1).numpy()
    assert np.abs(ours - oracle.predict_proba(scaled)).max() < 2e-3
    plain = fit_probe(features, targets, num_classes=3)
    assert not torch.allclose(plain.bias, probe.bias, atol=0.05)


def test_the_accuracy_that_chooses_the_penalty_is_weighted_too() -> None:
    features, targets = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)), None
    targets = (torch.arange(400) % 20 == 0).long()  # features say nothing of them
    weights = torch.where(targets == 1, 10.0, 10 / 19)
    plain = fit_probe(features, targets, num_classes=2)
    weighted = fit_probe(features, targets, num_classes=2, weights=weights)
    assert plain.accuracy == pytest.approx(0.95, abs=0.01)
    assert weighted.accuracy == pytest.approx(0.5, abs=0.15)


def test_features_that_are_read_piece_by_piece_have_the_same_solution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, targets = blobs(301, 3, 8, noise=1.0)
    weights = torch.linspace(0.5, 1.5, 301)
    whole = fit_probe(features, targets, num_classes=3, weights=weights)
    monkeypatch.setattr(probe, "MAX_NUMBERS", 8 * 50)  # 50 rows at a time
    parts = fit_probe(features, targets, num_classes=3, weights=weights)
    assert parts.penalty == whole.penalty
    assert parts.accuracy == pytest.approx(whole.accuracy)
    assert (parts.weight - whole.weight).abs().max() < 1e-3
    assert (parts.bias - whole.bias).abs().max() < 1e-3


def test_views_that_are_copies_change_nothing() -> None:
    features, targets = blobs(90, 3, 30, noise=4.0)
    one = fit_probe(features, targets, num_classes=3)
    copies, of = features.repeat_interleave(4, 0), targets.repeat_interleave(4)
    four = fit_probe(copies, of, num_classes=3, num_views=4)
    assert four.penalty == one.penalty
    assert four.accuracy == pytest.approx(one.accuracy)
    assert (four.weight - one.weight).abs().max() < 1e-3
    # Without being told, copies on both sides of a fold look like understanding.
    fooled = fit_probe(copies, of, num_classes=3)
    assert fooled.accuracy > one.accuracy + 0.1


def test_views_of_one_input_stay_together_where_only_some_rows_choose_the_penalty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "MAX_ROWS", 120)
    features, targets = blobs(90, 3, 30, noise=4.0)
    copies, of = features.repeat_interleave(4, 0), targets.repeat_interleave(4)
    told = fit_probe(copies, of, num_classes=3, num_views=4)
    assert told.accuracy < fit_probe(copies, of, num_classes=3).accuracy


# Several classes at once, each by itself.


def several(num_rows: int = 300, *, noise: float = 1.0, seed: int = 0):
    """Draw features and which of three classes rows have: one often, one seldom, one by chance."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_rows, 8, generator=generator)
    noises = noise * torch.randn(num_rows, 2, generator=generator)
    often = features[:, 0] + features[:, 1] + noises[:, 0] > 0
    seldom = features[:, 2] + noises[:, 1] > 1.8
    chance = torch.rand(num_rows, generator=generator) < 0.3
    return features, torch.stack([often, seldom, chance], 1).to(torch.uint8)


def oracle(features, targets, penalty: float, weights=None) -> np.ndarray:
    scaled = StandardScaler().fit_transform(features.numpy())
    model = LogisticRegression(C=1 / (penalty * len(targets)), max_iter=5000, tol=1e-10)
    return model.fit(scaled, targets.numpy(), weights).predict_proba(scaled)[:, 1]


def test_each_class_is_a_logistic_regression_of_its_own() -> None:
    features, targets = several()
    scaled = features * torch.logspace(-2, 2, 8) + 5  # scales that standardisation undoes
    probes = fit_probes(scaled, targets)
    ours = torch.sigmoid(scaled @ probes.weight.T + probes.bias)
    for place in range(3):
        theirs = oracle(features, targets[:, place], float(probes.penalties[place]))
        assert np.abs(ours[:, place].numpy() - theirs).max() < 3e-3


def test_each_class_has_the_penalty_of_its_lowest_held_out_loss() -> None:
    features, targets = several(600, noise=0.3)
    probes = fit_probes(features, targets)
    often, _, chance = probes.penalties.tolist()
    assert chance >= 0.3, "features say nothing of it"
    assert often < 0.1
    # One class by itself gets what it gets beside others.
    alone = fit_probes(features, targets[:, [0, 0]])
    assert alone.penalties.tolist() == pytest.approx([often, often])
    beside = fit_probes(features, targets[:, :1].repeat(1, 3))
    assert torch.allclose(beside.weight, alone.weight[:1].repeat(3, 1), atol=0.02)


def test_weights_of_rows_and_classes_count_as_in_scikit_learn() -> None:
    features, targets = several()
    weights = torch.where(targets == 1, 4.0, 1.0)
    weights[:, 0] = 1.0
    weights = weights / weights.mean(0)
    probes = fit_probes(features, targets, weights=weights)
    ours = torch.sigmoid(features @ probes.weight.T + probes.bias)
    for place in range(3):
        theirs = oracle(
            features, targets[:, place], float(probes.penalties[place]), weights[:, place].numpy()
        )
        assert np.abs(ours[:, place].numpy() - theirs).max() < 3e-3


def test_the_loss_is_that_of_rows_that_were_held_out() -> None:
    features, targets = several(600, seed=2)
    loss = fit_probes(features, targets).loss
    others, known = several(4000, seed=2)
    probes = fit_probes(features, targets)
    logits = others[600:] @ probes.weight.T + probes.bias
    fresh = torch.nn.functional.binary_cross_entropy_with_logits(logits, known[600:].float())
    assert loss == pytest.approx(float(fresh), rel=0.15)


@pytest.mark.parametrize("num_rows", [2, 3, 5])
def test_few_rows_of_several_classes_are_enough(num_rows: int) -> None:
    features, positions = blobs(num_rows, 2, 4, noise=0.1)
    targets = torch.nn.functional.one_hot(positions)
    probes = fit_probes(features, targets)
    assert (((features @ probes.weight.T + probes.bias) > 0) == targets.bool()).all()

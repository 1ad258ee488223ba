import math

import pytest
import torch

from napari_metastructure.learning.losses import (
    IGNORE,
    LOSSES,
    bce,
    bce_dice,
    class_weighted,
    dice,
    forward_corrected,
    iou,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS = torch.tensor([[[[0.0, math.log(3)], [-math.log(3), math.log(9)]]]])  # 1/2 3/4 1/4 9/10
TARGET = torch.tensor([[[1, 1], [0, 0]]])


def close(value):
    return pytest.approx(value, abs=1e-4)  # the smoothing term of the overlap losses


@pytest.fixture
def random_case():
    generator = torch.Generator().manual_seed(0)

    def make(channels):
        logits = torch.randn(3, channels, 8, 9, generator=generator)
        target = torch.randint(0, max(2, channels), (3, 8, 9), generator=generator)
        target[torch.rand(3, 8, 9, generator=generator) < 0.3] = IGNORE
        return logits, target

    return make


def test_binary_values_by_hand():
    assert bce(LOGITS, TARGET).item() == close(-math.log(0.5 * 0.75 * 0.75 * 0.1) / 4)
    assert dice(LOGITS, TARGET).item() == close(1 - 2 * 1.25 / (2.4 + 2))
    squares = 0.5**2 + 0.75**2 + 0.25**2 + 0.9**2
    assert iou(LOGITS, TARGET).item() == close(1 - 1.25 / (squares + 2 - 1.25))
    both = bce(LOGITS, TARGET) + dice(LOGITS, TARGET)
    assert bce_dice(LOGITS, TARGET).item() == pytest.approx(both.item())


def test_class_values_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])  # two pixels, three classes
    logits, target = p.log().T.reshape(1, 3, 1, 2), torch.tensor([[[2, 1]]])
    assert bce(logits, target).item() == close(-math.log(0.25 * 0.8) / 2)
    overlaps = 2 * 0.8 / (1.05 + 1), 2 * 0.25 / (0.35 + 1)  # of classes 1 and 2
    assert dice(logits, target).item() == close(1 - sum(overlaps) / 2)
    unions = 0.25**2 + 0.8**2 + 1 - 0.8, 0.25**2 + 0.1**2 + 1 - 0.25
    assert iou(logits, target).item() == close(1 - (0.8 / unions[0] + 0.25 / unions[1]) / 2)


def test_cross_entropy_takes_soft_targets():
    soft = torch.full((1, 2, 2), 0.25)
    p = torch.tensor([0.5, 0.75, 0.25, 0.9])
    expected = -(0.25 * p.log() + 0.75 * (1 - p).log()).mean().item()
    assert bce(LOGITS, soft).item() == close(expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_perfect_beats_blind_beats_wrong(name, channels):
    target = torch.arange(12).reshape(1, 3, 4) % max(2, channels)
    right = torch.nn.functional.one_hot(target, max(2, channels)).movedim(-1, 1).float()
    right = 20 * (right[:, 1:] - 0.5 if channels == 1 else right)
    perfect, blind, wrong = (LOSSES[name](sign * right, target).item() for sign in (1, 0, -1))
    assert 0 <= perfect < 1e-3 < blind < wrong


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_ignored_pixels_have_no_influence(name, channels, random_case):
    logits, target = random_case(channels)
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    other = torch.where(ignored, logits + 5 * torch.randn_like(logits), logits)
    logits.requires_grad_(), other.requires_grad_()
    first, second = LOSSES[name](logits, target), LOSSES[name](other, target)
    first.backward(), second.backward()
    assert first.item() == pytest.approx(second.item(), rel=1e-6)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
    torch.testing.assert_close(logits.grad, other.grad)


@pytest.mark.parametrize("channels", [1, 3])
def test_cross_entropy_is_that_of_the_pixels_that_count(channels, random_case):
    logits, target = random_case(channels)
    counted = target != IGNORE
    kept = logits.movedim(1, -1)[counted].T[None, :, None]
    assert bce(logits, target).item() == pytest.approx(
        bce(kept, target[counted][None, None]).item()
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_to_learn_is_harmless(name, channels):
    logits = torch.randn(1, channels, 4, 4, 4, requires_grad=True)
    loss = LOSSES[name](logits, torch.full((1, 4, 4, 4), IGNORE))
    loss.backward()
    assert torch.isfinite(loss)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_counted_in_full(name):
    logits = torch.zeros(1, 1, 512, 512, dtype=torch.float16)
    target = torch.ones(1, 512, 512, dtype=torch.int64)
    loss = LOSSES[name](logits, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(LOSSES[name](logits.float(), target).item())


# ----------------------------------------------------------------- known noise


def test_forward_correction_by_hand():
    loss = forward_corrected([[0.9, 0.1], [0.4, 0.6]])
    p = torch.tensor([0.5, 0.75, 0.25, 0.9])  # of the true label being object
    noisy = 0.1 * (1 - p) + 0.6 * p
    expected = -torch.stack([noisy[0], noisy[1], 1 - noisy[2], 1 - noisy[3]]).log().mean()
    assert loss(LOGITS, TARGET).item() == close(expected.item())
    target = TARGET.clone()
    target[0, 0, 0] = IGNORE
    rest = -torch.stack([noisy[1], 1 - noisy[2], 1 - noisy[3]]).log().mean()
    assert loss(LOGITS, target).item() == close(rest.item())


@pytest.mark.parametrize("channels", [1, 3])
def test_forward_correction_without_noise_is_cross_entropy(channels, random_case):
    logits, target = random_case(channels)
    loss = forward_corrected(torch.eye(max(2, channels)).numpy())
    assert loss(logits, target).item() == pytest.approx(bce(logits, target).item(), abs=1e-4)


def test_forward_correction_is_least_at_the_true_probabilities():
    """Of three classes, and with a noise that makes a wrong class the likeliest."""
    matrix = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    true = torch.tensor([0.7, 0.2, 0.1])
    counts = (1000 * true @ matrix).round().long()
    target = torch.repeat_interleave(torch.arange(3), counts)[None, None]
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = forward_corrected(matrix.numpy())(logits.expand(-1, -1, 1, target.shape[2]), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = logits.detach().softmax(1).flatten()
    assert torch.allclose(found, true, atol=0.01)


def test_forward_correction_stays_finite_for_certain_and_impossible_pixels():
    loss = forward_corrected([[1.0, 0.0], [0.9, 0.1]])
    logits = torch.tensor([[[[-200.0, 200.0]]]], requires_grad=True)
    loss(logits, torch.tensor([[[1, 0]]])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_rare_classes_count_more_where_weighted(classes):
    shares = [0.9, 0.1] if classes == 2 else [0.81, 0.18, 0.01]
    loss = class_weighted(shares)
    logits = torch.zeros(1, 1 if classes == 2 else classes, 10, 10, requires_grad=True)

    def cost(label):
        target = torch.full((1, 10, 10), IGNORE)
        target[0, :5] = label
        return loss(logits, target).item()

    costs = [cost(label) for label in range(classes)]
    for label in range(1, classes):
        assert costs[label] / costs[0] == pytest.approx((shares[0] / shares[label]) ** 0.5)
    mean = sum(share * cost for share, cost in zip(shares, costs))
    assert mean == pytest.approx(math.log(classes))  # as unweighted
    loss(logits, torch.zeros(1, 10, 10, dtype=torch.long)).backward()
    assert logits.grad is not None

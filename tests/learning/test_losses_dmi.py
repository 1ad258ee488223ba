import numpy as np
import pytest
import torch

from napari_metastructure.learning import losses


def _case(seed=0, shape=(3, 8, 8), dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], 1, *shape[1:], generator=rng, dtype=dtype)
    target = (torch.rand(shape, generator=rng) > 0.7).long()
    return logits, target


def _determinants(logits, target):
    """det of the joint distribution, written out as the 2 x 2 matrix product."""
    values = []
    for logit, label in zip(logits[:, 0], target):
        keep = label != losses.IGNORE
        p, s = logit[keep].sigmoid().double(), label[keep].double()
        q = torch.stack([p, 1 - p]) @ torch.stack([s, 1 - s]).T / len(p)
        values.append(torch.linalg.det(q))
    return torch.stack(values)


def test_published_and_signed_loss_are_the_log_determinant():
    logits, target = _case()
    logits = logits + 4 * (target[:, None] - 0.5)  # a prediction that agrees
    det = _determinants(logits, target)
    assert (det > 1e-3).all()
    assert losses.dmi(logits, target).item() == pytest.approx(-torch.log(det + 1e-3).mean().item())
    assert losses.signed_dmi(logits, target).item() == pytest.approx(-torch.log(det).mean().item())


def test_ignored_pixels_do_not_count():
    logits, target = _case()
    target[:, :2] = losses.IGNORE
    expected = -torch.log(_determinants(logits, target).abs() + 1e-3).mean()
    assert losses.dmi(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    changed = logits.clone()
    changed[:, :, :2] = 9
    assert losses.signed_dmi(logits, target) == losses.signed_dmi(changed, target)


def test_only_the_signed_loss_tells_a_prediction_from_its_inverse():
    logits, target = _case(dtype=torch.float32)
    logits = logits + 4 * (target[:, None] - 0.5)
    assert losses.dmi(logits, target).item() == pytest.approx(
        losses.dmi(-logits, target).item(), rel=1e-4
    )
    assert losses.signed_dmi(-logits, target) > losses.signed_dmi(logits, target) + 1


def test_signed_loss_is_smooth_where_the_logarithm_ends():
    """Value and slope agree on both sides of det = 1e-3."""
    target = torch.tensor([[[0, 1]]])
    # with p = (1/2 - e, 1/2 + e) the determinant is e / 2
    shift = torch.tensor([0.0019999, 0.0020001], dtype=torch.float64)
    logits = torch.stack([torch.logit(0.5 - shift), torch.logit(0.5 + shift)], 1)
    logits = logits[:, None, None].requires_grad_()
    values = [losses.signed_dmi(logits[i : i + 1], target) for i in range(2)]
    slopes = [torch.autograd.grad(value, logits)[0].abs().max() for value in values]
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-3)
    assert slopes[0].item() == pytest.approx(slopes[1].item(), rel=1e-2)


@pytest.mark.parametrize("name", sorted(losses.UNSUPERVISED_LOSSES))
def test_gradients_agree_with_finite_differences(name):
    loss = losses.UNSUPERVISED_LOSSES[name]
    logits, target = _case(shape=(2, 3, 3), dtype=torch.float32)
    logits = logits + 2 * (target[:, None] - 0.5)
    logits.requires_grad_()
    loss(logits, target).backward()
    for index in np.ndindex(2, 1, 3, 3):
        step = torch.zeros_like(logits)
        step[index] = 1e-2
        with torch.no_grad():
            numeric = (loss(logits + step, target) - loss(logits - step, target)) / 2e-2
        assert logits.grad[index].item() == pytest.approx(numeric.item(), abs=2e-3, rel=2e-2)


@pytest.mark.parametrize("name", sorted(losses.UNSUPERVISED_LOSSES))
@pytest.mark.parametrize("value", [0, 1, losses.IGNORE])
def test_labels_of_one_value_give_finite_gradients(name, value):
    logits, target = _case(dtype=torch.float32)
    logits.requires_grad_()
    loss = losses.UNSUPERVISED_LOSSES[name](logits, torch.full_like(target, value))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["bce", "dmi", "signed_dmi"])
def test_soft_targets_equal_hard_ones_at_the_ends(name):
    loss = losses.UNSUPERVISED_LOSSES[name]
    logits, target = _case(dtype=torch.float32)
    assert loss(logits, target) == loss(logits, target.float())

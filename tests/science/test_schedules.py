"""Schedules: end points, direction, derivative, and the sampling grid."""

import pytest
import torch
from helpers import every_schedule

from dmmd_lite.processes import get_process
from dmmd_lite.processes.schedules import SCHEDULES, time_grid


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_exact_and_alpha_is_positive_before_one(schedule, dtype):
    alpha = SCHEDULES[schedule]().alpha
    assert alpha(torch.tensor([0, 1], dtype=dtype)).tolist() == [1, 0]
    assert alpha(1 - torch.tensor(torch.finfo(dtype).eps, dtype=dtype)) > 0


@every_schedule
def test_alpha_falls_and_its_derivative_matches_finite_differences(schedule):
    schedule = SCHEDULES[schedule]()
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert (schedule.alpha(t).diff() < 0).all()
    h = 1e-5
    slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2 * h)
    torch.testing.assert_close(schedule.alpha_prime(t), slope, rtol=0, atol=1e-8)


def test_cosine_is_the_published_formula():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    published = 1 - torch.cos(torch.pi / 2 * (1 - t))
    torch.testing.assert_close(SCHEDULES["cosine"]().alpha(t), published, rtol=0, atol=1e-15)


def test_linear_loss_weight_is_one_over_t():
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    torch.testing.assert_close(get_process("masked", 3).loss_weight(t), 1 / t)


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_time_grid(steps):
    grid = time_grid(steps)
    assert grid.shape == (steps + 1,) and grid[0] == 1 and grid[-1] == 0
    torch.testing.assert_close(grid.diff(), torch.full((steps,), -1 / steps, dtype=torch.float64))


def test_time_grid_needs_a_step():
    with pytest.raises(ValueError, match="steps: 0 is not allowed"):
        time_grid(0)


@every_schedule
def test_time_is_the_inverse_of_alpha(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    made = SCHEDULES[schedule]()
    assert torch.allclose(made.time(made.alpha(t)), t, atol=1e-7)

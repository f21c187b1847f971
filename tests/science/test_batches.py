"""Batches drawn ahead equal those drawn in turn, also after a stop, and errors of the data are raised."""

import json
import threading

import pytest
import torch
from helpers import Killed, kill_after
from safetensors.torch import load_file
from torch import nn

from dmmd_lite.training import loop
from dmmd_lite.training.batches import DataStream
from dmmd_lite.training.loop import train
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT
from dmmd_lite.utils.rng import generator_for

CPU = torch.device("cpu")


def draw(size, generator):
    return torch.randn(size, 3, generator=generator)


def take(batches, n):
    return torch.cat([batches.next() for _ in range(n)])


@pytest.fixture
def seed(rng):
    return int(torch.randint(10**6, (1,), generator=rng))


def test_ahead_or_in_turn_is_the_same(seed):
    with (
        DataStream(draw, 4, seed, CPU, prefetch=False) as plain,
        DataStream(draw, 4, seed, CPU, prefetch=True) as fast,
    ):
        for _ in range(3):
            assert torch.equal(plain.next(), fast.next())
            assert torch.equal(plain.state, fast.state)


@pytest.mark.parametrize("prefetch", (False, True))
def test_what_follows_depends_on_what_was_handed_out(prefetch, seed):
    """The batches that follow do not depend on what was drawn ahead."""
    with DataStream(draw, 4, seed, CPU, prefetch) as whole, DataStream(draw, 4, seed, CPU, prefetch) as first:
        expected = take(whole, 5)
        begun, state = take(first, 2), first.state
    with DataStream(draw, 4, seed + 1, CPU, prefetch) as second:
        second.resume_from(state)
        assert torch.equal(torch.cat([begun, take(second, 3)]), expected)


def test_the_next_one_is_drawn_in_another_thread_before_it_is_asked_for(seed):
    drawn, names = threading.Semaphore(0), []

    def noted(size, generator):
        names.append(threading.current_thread().name)
        drawn.release()
        return draw(size, generator)

    with DataStream(noted, 4, seed, CPU, prefetch=True) as batches:
        batches.next()
        assert all(drawn.acquire(timeout=10) for _ in range(2))
    assert threading.current_thread().name not in names


def test_data_are_not_made_of_the_numbers_that_make_noise(seed):
    with DataStream(draw, 4, seed, CPU, prefetch=False) as batches:
        assert not torch.equal(batches.next(), draw(4, generator_for(CPU, seed)))


@pytest.mark.parametrize("prefetch", (False, True))
def test_errors_of_data_are_raised(prefetch, seed):
    def broken(size, generator):
        raise OSError("no such book")

    with DataStream(broken, 4, seed, CPU, prefetch) as batches, pytest.raises(OSError, match="no such book"):
        batches.next()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_batches_are_the_same(seed):
    device = torch.device("cuda")
    with (
        DataStream(draw, 4, seed, CPU, prefetch=False) as plain,
        DataStream(draw, 4, seed, device, prefetch=True) as fast,
    ):
        for _ in range(20):
            x = fast.next()
            assert x.device.type == "cuda" and torch.equal(x.cpu(), plain.next())


class Line:
    """A regression with noise from the loop's generator."""

    def __init__(self):
        torch.manual_seed(0)
        self.players = {"line": nn.Linear(3, 1)}

    def losses(self, step, x, generator):
        noise = torch.randn(len(x), generator=generator)
        return {"line": {"square": (self.players["line"](x)[:, 0] - x.sum(-1) - noise).square().mean()}}


def test_a_run_that_draws_ahead_resumes_in_the_same_bits(seed, tmp_path, monkeypatch):
    options = TrainingOptions(9, 4, {"line": 0.1}, checkpoint_every=2, log_every=1)
    train(Line(), draw, options, tmp_path / "in turn", seed=seed)

    def ahead_of(*arguments, prefetch):
        return DataStream(*arguments, prefetch=True)

    monkeypatch.setattr(loop, "DataStream", ahead_of)
    with pytest.raises(Killed):
        train(Line(), kill_after(7, draw), options, tmp_path / "prefetch", seed=seed)
    train(Line(), draw, options, tmp_path / "prefetch", seed=seed)
    first, second = (load_file(tmp_path / name / CHECKPOINT) for name in ("in turn", "prefetch"))
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    logs = [
        [json.loads(line)["line/square"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("in turn", "prefetch")
    ]
    assert logs[0] == logs[1]

"""Batches of clean tokens, from random numbers of their own, so that they may be drawn ahead of the training.

On CUDA the next batch is drawn by a thread, into pinned memory, while the device works on this one, so one
more is drawn than is used. As data draw from their own generator alone, the batches are the same, and the
state to go on from is the one behind the last batch handed out.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dmmd_lite.utils.rng import generator_for

DATA_SEED_OFFSET = (
    2**31
)  # from the seeds of noise: equal seeds would be equal numbers, and of a seed 32 bits count


class DataStream:
    """Batches of `size` that data(size, generator) gives, [size, L], on `device`; a context."""

    def __init__(
        self,
        data: Callable[[int, torch.Generator], Tensor],
        size: int,
        seed: int,
        device: torch.device,
        prefetch: bool,
    ):
        """ahead: whether a thread draws the next batch before it is asked for."""
        self.data, self.size, self.device = data, size, device
        self.generator = generator_for("cpu", DATA_SEED_OFFSET + seed)
        self.state = self.generator.get_state()  # behind the last batch handed out
        self.executor = ThreadPoolExecutor(1, "batches") if prefetch else None
        self.next_batch = None

    def __enter__(self) -> "DataStream":
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for a batch that is being drawn."""
        if self.executor is not None:
            self.executor.shutdown()

    def resume_from(self, state: Tensor) -> None:
        """Take up a `state`, before the first batch."""
        self.generator.set_state(state)
        self.state = state

    def next(self) -> Tensor:
        """The next batch. Errors: what data raises."""
        if self.executor is None:
            x, self.state = self._draw()
        else:
            x, self.state = (self.next_batch or self.executor.submit(self._draw)).result()
            self.next_batch = self.executor.submit(self._draw)
        return x.to(self.device, non_blocking=self.device.type == "cuda")

    def _draw(self) -> tuple[Tensor, Tensor]:
        x = self.data(self.size, self.generator)
        return x.pin_memory() if self.device.type == "cuda" else x, self.generator.get_state()

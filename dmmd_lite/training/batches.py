"""Batches of clean tokens from a separate random generator, so that they can be drawn ahead of the training.

On CUDA a thread draws the next batch, into pinned memory, while the device works on the current one. One more
batch is then drawn than is used. Because data are drawn from this generator only, the batches are the same
with and without the thread, and a checkpoint needs the generator's state after the last batch handed out.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dmmd_lite.training.method import Data
from dmmd_lite.utils.checks import check
from dmmd_lite.utils.files import tensors_sha256
from dmmd_lite.utils.rng import generator_for

# The data generator must not have the seed of the noise generator: equal seeds give equal random numbers. The
# generator uses only the low 32 bits of a seed.
DATA_SEED_OFFSET = 2**31


class DataStream:
    """A context that hands out batches [size, L] on `device`.

    Args:
    data, size, seed: source of clean tokens, sequences per batch, and seed of the data generator.
    prefetch: whether a thread draws the next batch before it is requested.
    """

    def __init__(self, data: Data, size: int, seed: int, device: torch.device, prefetch: bool):
        self.data, self.size, self.seed, self.device = data, size, seed, device
        self.first = ""  # the SHA-256 of the first batch of the training, once that is known
        self.generator = generator_for("cpu", DATA_SEED_OFFSET + seed)
        self.state = self.generator.get_state()  # the state after the last batch handed out
        self.executor = ThreadPoolExecutor(1, "batches") if prefetch else None
        self.next_batch = None

    def __enter__(self) -> "DataStream":
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for a batch that is being drawn."""
        if self.executor is not None:
            self.executor.shutdown()

    def find_first(self, rank: int) -> None:
        """Set `first` where a training resumes: draw its first batch, that of process 0, once more."""
        generator = generator_for("cpu", DATA_SEED_OFFSET + self.seed - rank)
        self.first = tensors_sha256({"": self._sequences(generator)})

    def resume_from(self, state: Tensor) -> None:
        """Continue from a saved `state`. Call this before the first batch."""
        self.generator.set_state(state)
        self.state = state

    def next(self) -> Tensor:
        """Return the next batch. Errors: those of `data`, and ValueError for another number of sequences."""
        if self.executor is None:
            x, self.state = self._draw()
        else:
            x, self.state = (self.next_batch or self.executor.submit(self._draw)).result()
            self.next_batch = self.executor.submit(self._draw)
        return x.to(self.device, non_blocking=self.device.type == "cuda")

    def _sequences(self, generator: torch.Generator) -> Tensor:
        """Draw a batch. ValueError unless it is a tensor of `size` rows."""
        x = check("data", self.data(self.size, generator), Tensor)
        if x.ndim < 2 or len(x) != self.size:
            words = f"shape {list(x.shape)} is not allowed; the function must give [{self.size}, L]"
            raise ValueError(f"data: {words}")
        return x

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Draw a batch and return it with the state of the generator after it."""
        x = self._sequences(self.generator)
        self.first = self.first or tensors_sha256({"": x})
        return x.pin_memory() if self.device.type == "cuda" else x, self.generator.get_state()

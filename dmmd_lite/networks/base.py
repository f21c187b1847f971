"""The interface of networks whose logits may be computed in chunks."""

from torch import Tensor, nn


class SplitNetwork(nn.Module):
    """A network in two parts: `hidden` does all the work, and `logits` is a head that reads hidden vectors.

    Subclass this if logits [B, L, V] do not fit in memory: losses then call `logits` on chunks of hidden
    vectors.
    per_position: True if vector l alone gives the logits of position l, so that h may be [N, 1, width] with
    any N positions; else the vectors of a sequence stay together.
    """

    per_position = True

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, L], times [B], optional noise and which symbols are held, bool [B, L], to vectors
        [B, P, width]."""
        raise NotImplementedError

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, P, width] to finite logits [B, L, V]."""
        raise NotImplementedError

    def forward(
        self, z: Tensor, t: Tensor, noise: Tensor | None = None, held: Tensor | None = None
    ) -> Tensor:
        """Compute logits [B, L, V]: the head on the hidden vectors."""
        return self.logits(self.hidden(z, t, noise, held))

"""What a network with a vocabulary too large for all logits at once looks like."""

from torch import Tensor, nn


class SplitNetwork(nn.Module):
    """A network in two parts: `hidden` with all the work, and `logits`, a head that reads hidden vectors.

    A class of one's own that keeps to this may have a vocabulary too large for logits [B, L, V] at once.
    per_position: whether vector l alone gives the logits of position l, so that h may be [N, 1, width] with
    any N positions; else a sequence's vectors stay together.
    """

    per_position = True

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Symbols [B, L], times [B] and optional noise to vectors [B, P, width]."""
        raise NotImplementedError

    def logits(self, h: Tensor) -> Tensor:
        """Vectors [B, P, width] to logits [B, L, V]."""
        raise NotImplementedError

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits [B, L, V]: the head on the hidden vectors."""
        return self.logits(self.hidden(z, t, noise))

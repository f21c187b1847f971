"""Training of teachers: cross-entropy (equation 5) or the continuous-time bound."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.base import TokenMethod
from dmmd_lite.objectives.likelihood_bound import bound_at
from dmmd_lite.objectives.terms import soft_cross_entropy, stratified_times, token_nats
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import checked

Loss = Literal["cross_entropy", "bound"]
LOSSES = get_args(Loss)


class DenoisingObjective(TokenMethod):
    """The objective of a teacher: player "denoiser", trained on data.

    Args:
    loss: "cross_entropy" (equation 5 with w = 1, the paper's teachers) or "bound" (masked noise: weight
        -alpha'/(1-alpha); uniform noise: the traditional bound).
    exact: None, or a denoiser whose probabilities replace the data's tokens as targets of the cross-entropy,
        which fits a network to exact posteriors.
    """

    @checked
    def __init__(
        self,
        denoiser: nn.Module,
        process: Process,
        loss: Loss = "cross_entropy",
        exact: nn.Module | None = None,
    ):
        self.players = {"denoiser": denoiser}
        self.process, self.loss, self.exact = process, loss, exact

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the loss of tokens x [B, L], in nats per token that carries noise."""
        denoiser, process = self.players["denoiser"], self.process
        t, tokens = stratified_times(len(x), generator, x.device), process.num_noised(x.shape[1])
        if self.loss == "bound":
            return {"denoiser": {"bound": bound_at(denoiser, process, x, t, generator).mean() / tokens}}
        z = process.corrupt(x, t, generator)
        prediction = predict(denoiser, process, z, t, generator)
        if self.exact is None:
            nats = token_nats(prediction, x)
        else:
            with torch.no_grad():
                exact = predict(self.exact, process, z, t, generator)
            both, scored = [exact, prediction], process.loss_mask(z)
            found = map_chunks(lambda *logs: {"nats": soft_cross_entropy(*logs)}, both, [], scored)
            nats = found["nats"].sum(-1)
        return {"denoiser": {"cross_entropy": nats.mean() / tokens}}

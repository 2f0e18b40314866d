"""What CATT's dictionaries are used for while a model trains: entropies in the log."""

from collections.abc import Callable, Sequence

from models.lxmert.dictionaries import watched_dictionaries
from trainers.objective import Model, Objective, ObjectiveOutput

EVERY = 10
"""One in so many updates is watched: it computes the attention over the entries a second time."""


class WatchedDictionaries(Objective):
    """Another objective of a model with dictionaries, which also logs `dictionary/words` and `dictionary/boxes`: the
    entropy in nats of the attention over the entries, a mean over queries and heads.

    It is at most the logarithm of the number of entries, where all are looked at alike, and 0 where one alone is.
    """

    def __init__(self, objective: Objective, every: int = EVERY) -> None:
        self.inner = objective
        self.every = every

    def set_mode(self, model: Model) -> None:
        self.inner.set_mode(model)

    def update_begins(self, batches: Sequence[dict], add: Callable[[list[float]], list[float]]) -> None:
        self.inner.update_begins(batches, add)

    def prepare(self, model: Model, batch: dict) -> dict:
        return self.inner.prepare(model, batch)

    def close(self) -> None:
        self.inner.close()

    def names(self, batch: dict) -> Sequence[str]:
        return self.inner.names(batch)

    def count(self, batch: dict, step: int) -> float:
        return self.inner.count(batch, step)

    def __call__(self, model: Model, batch: dict, step: int) -> ObjectiveOutput:
        if step % self.every:
            return self.inner(model, batch, step)
        with watched_dictionaries(model) as found:
            output = self.inner(model, batch, step)
        like = output.loss_sum.detach()
        entropies = {
            f"dictionary/{name}": (like.new_tensor(total), float(found.counts[name]))
            for name, total in found.sums.items()
        }
        return ObjectiveOutput(output.loss_sum, output.logs | entropies)

"""Rewards of being in the asked style."""

from metrics.style_classifier import StyleClassifier
from rewards.base import Reward, RewardBatch, register
from rewards.resources import Resources

_MOST = 5.0  # beyond e^5 to 1 a caption is in the style; more margin is more of the same words
_ENOUGH = 1.0  # nats: the asked style is e times as probable as the next


class StyleReward:
    """How much more probable the asked style is than the likeliest other, in nats, at most 5 either way.

    Above 0 the classifier would name the asked style.

    Args:
        most: nats beyond which there is no more to be had. Where it is small, the reward is a constraint: more words of
            the style are worth no more than one.
    """

    def __init__(self, classifier: StyleClassifier, most: float = _MOST):
        self.classifier = classifier
        self.most = most

    def __call__(self, batch: RewardBatch) -> list[list[float]]:
        width = len(batch.candidates[0])
        texts = [candidate.text for group in batch.candidates for candidate in group]
        asked = [style for style in batch.styles for _ in range(width)]
        margins = self.classifier.margins(texts, asked).clip(-_MOST, self.most).reshape(-1, width)
        return margins.tolist()


@register("style")
def _style(resources: Resources) -> Reward:
    return StyleReward(resources.style_classifier)


@register("style-enough")
def _style_enough(resources: Resources) -> Reward:
    return StyleReward(resources.style_classifier, _ENOUGH)

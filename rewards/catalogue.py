"""All rewards that there are; importing this module registers them."""

from collections.abc import Iterable

from rewards import form, style, text, variety
from rewards.base import FACTORIES, Factory, Reward, factory_of
from rewards.outside import outside_factory, outside_names
from rewards.resources import Resources

__all__ = ["FACTORIES", "build_rewards", "form", "style", "text", "variety"]


def build_rewards(names: Iterable[str], resources: Resources) -> dict[str, Reward]:
    """The rewards named, built. ValueError for an unknown name, before any is built."""
    factories = {name: _factory(name) for name in names}
    return {name: factory(resources) for name, factory in factories.items()}


def _factory(name: str) -> Factory:
    found = FACTORIES.get(name) or outside_factory(name)
    return found or factory_of(name, outside_names())

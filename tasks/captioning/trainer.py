"""The trainer of captions in a style, under the name that it has in ModelScope's registry."""

from modelscope.trainers.builder import TRAINERS

from trainers.modelscope import OFATrainer

NAME = "ofa-stylish-captioning"


@TRAINERS.register_module(module_name=NAME)
class StylishOFATrainer(OFATrainer):
    """An `OFATrainer` whose loop `tasks.training.prepare` made for the task stylish-image-captioning."""

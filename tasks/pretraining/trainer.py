"""The trainer of pre-training, under the name that it has in ModelScope's registry."""

from modelscope.trainers.builder import TRAINERS

from trainers.modelscope import OFATrainer

NAME = "stylecap-pretraining"


@TRAINERS.register_module(module_name=NAME)
class PretrainingTrainer(OFATrainer):
    """Holds the loop that `tasks.training.prepare` made for the task vision-language-pretraining."""

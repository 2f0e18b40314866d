"""The trainer of answers, under the name that it has in ModelScope's registry."""

from modelscope.trainers.builder import TRAINERS

from trainers.modelscope import OFATrainer

NAME = "stylecap-question-answering"


@TRAINERS.register_module(module_name=NAME)
class AnsweringTrainer(OFATrainer):
    """Holds the loop that `tasks.training.prepare` made for the task visual-question-answering."""

"""Question files to records: readers, answer vocabularies and the doctor of questions."""

from data.questions.readers import FORMATS, read_questions
from data.questions.records import Question, Questions
from data.questions.vocabulary import AnswerVocabulary, soft_score

__all__ = ["FORMATS", "AnswerVocabulary", "Question", "Questions", "read_questions", "soft_score"]

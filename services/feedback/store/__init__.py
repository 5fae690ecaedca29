"""The tables of feedback. One method is one transaction."""

from services.feedback.store.answers import AnswerStore, Overtaken, Standing
from services.feedback.store.cases import CaseStore
from services.feedback.store.projection import ProjectionStore
from services.feedback.store.surveys import SurveyStore

__all__ = ["AnswerStore", "CaseStore", "Overtaken", "ProjectionStore", "Standing", "SurveyStore"]

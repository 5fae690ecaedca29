"""The tables of segmentation. One method is one transaction."""

from services.segmentation.store.evaluation import Due, EvaluationStore, Known, Loaded, Mark, Outcome
from services.segmentation.store.projection import ProjectionStore, Touched
from services.segmentation.store.rows import Overtaken
from services.segmentation.store.segments import Member, SegmentStore, Stored

__all__ = [
    "Due",
    "EvaluationStore",
    "Known",
    "Loaded",
    "Mark",
    "Member",
    "Outcome",
    "Overtaken",
    "ProjectionStore",
    "SegmentStore",
    "Stored",
    "Touched",
]

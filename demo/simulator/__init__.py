"""A simulated shop whose truth is known: who drops out when, who would recommend it, who answers to a retention action."""

from demo.simulator.shop import Shop
from demo.simulator.survey import Answer, net_promoter_score
from demo.simulator.truth import Truth

__all__ = ["Answer", "Shop", "Truth", "net_promoter_score"]

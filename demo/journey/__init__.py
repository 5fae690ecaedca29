"""The main job: one source's customers go all the way round the loop, through the public HTTP API; a report says what came out.

`travel` is the road: feed, train, judge, promote, score, segment, recommend; where the source is the simulated shop also
survey, experiment and rollout. Each step is a function in the module named for it and puts its figures into the record.
"""

from demo.journey.facts import Facts
from demo.journey.road import travel

__all__ = ["Facts", "travel"]

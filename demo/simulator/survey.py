"""What customers answer when they are asked how likely they would recommend the shop."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from demo.simulator.people import Person

ANSWERING: Final = 0.38
COMMENTING: Final = 0.7
WITHIN_DAYS: Final = 6.0

# For detractors, passives and promoters.
_ENGLISH: Final = (
    (
        "Delivery took two weeks and nobody answered my mails.",
        "The parcel arrived broken, and the refund is still missing.",
        "Too expensive for the quality.",
        "I was sent the wrong item twice.",
        "Support did not help me at all.",
    ),
    (
        "Good products, but delivery could be faster.",
        "All fine, nothing special.",
        "I like the range, the shop is a little slow.",
        "Nice, though prices went up.",
    ),
    (
        "Beautiful things and always on time.",
        "I love the tea and the packaging.",
        "Friendly support, quick delivery. Thank you!",
        "My favourite shop for presents.",
        "Great quality, I come back every month.",
    ),
)
_CHINESE: Final = (
    ("送货太慢了, 客服一直没有回复。", "收到的时候已经坏了, 退款也没到。", "质量不好, 不值这个价钱。", "发错货两次, 很失望。"),
    ("东西还可以, 物流可以再快一点。", "一般般, 没有特别不满意。", "款式喜欢, 价格不便宜。"),
    ("非常喜欢, 包装很精美。", "质量很好, 送货也快, 会继续买。", "客服态度很好, 推荐给朋友了。", "送礼首选, 每次都满意。"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`rating` 0 to 10; `comment` may be empty."""

    user_id: str
    rating: int
    comment: str
    answered: datetime


def net_promoter_score(ratings: Iterable[int]) -> float:
    """Percentage of 9 and 10 minus percentage of 0 to 6 (Reichheld 2003). Raises ZeroDivisionError without ratings."""
    given = list(ratings)
    promoters = sum(rating >= 9 for rating in given)
    detractors = sum(rating <= 6 for rating in given)
    return 100.0 * (promoters - detractors) / len(given)


def draw_answer(person: Person, rng: np.random.Generator, asked: datetime) -> Answer | None:
    """Whether somebody answers depends on nothing but chance; None: no answer."""
    answers, delay, comments, which = rng.random(4).tolist()
    if answers >= ANSWERING:
        return None
    rating = person.nature.rating
    texts = (_CHINESE if person.chinese else _ENGLISH)[(rating > 6) + (rating > 8)]
    comment = texts[int(which * len(texts))] if comments < COMMENTING else ""
    answered = asked + timedelta(milliseconds=int(delay * WITHIN_DAYS * 86_400_000))
    return Answer(person.user_id, rating, comment, answered)

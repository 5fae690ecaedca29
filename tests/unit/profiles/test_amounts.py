"""Numbers have one spelling, and money keeps its pennies."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.amounts import canonical


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (12.0, "12"), (12.5, "12.5"), (0.1, "0.1"), (-3.25, "-3.25"), (1e-7, "0.0000001"),
        (True, "1"), (False, "0"), (1e22, "10000000000000000000000"), (1e-12, "0"), (-1e-12, "0"), (10**28, "1" + "0" * 28),
        (0.1 + 0.2, "0.3"), (1234567.890123456, "1234567.890123456"), (8.000000001499999, "8.000000001"),
    ],
)  # fmt: skip
def test_a_number_is_spelled_plainly(value: float, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [10**29, -(10**29), 2e29, 1e300])
def test_a_number_that_no_column_holds_is_left_out(value: float) -> None:
    assert canonical(value) is None


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=6))
def test_money_of_up_to_fifteen_digits_survives_json(amount: Decimal) -> None:
    spelled = canonical(json.loads(str(amount)))
    assert spelled is not None
    assert Decimal(spelled) == amount

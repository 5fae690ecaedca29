"""Pages that are printed from the code."""

from pydantic import Field

from chassis.errors import TABLE, Conflict, InvalidArgument, Reason, Unavailable
from chassis.settings import ServiceSettings, prefix_of
from infra.docs import choosing_classes_in, errors_page, reasons_in, settings_page


class Settings(ServiceSettings):
    model_config = prefix_of("weather")

    station: str = Field(default="north|south", description="Which station.")


def test_reasons_are_found_with_the_class_that_they_are_raised_as() -> None:
    code = """
raise Conflict("no", reason=Reason.NO_MODEL)
raise errors.Unavailable("no", reason=Reason.RATE_LIMITED if busy else Reason.QUEUE_FULL)
raise InvalidArgument("no", field="x")
reject(Reason.MALFORMED_JSON)
"""
    found = set(reasons_in(code))
    assert found >= {
        (Reason.NO_MODEL, Conflict),
        (Reason.RATE_LIMITED, Unavailable),
        (Reason.QUEUE_FULL, Unavailable),
        (Reason.INVALID_FIELD, InvalidArgument),
        (Reason.MALFORMED_JSON, None),
    }
    assert (Reason.ALREADY_EXISTS, Conflict) not in found


def test_a_class_that_is_made_with_a_reason_out_of_a_table_is_found() -> None:
    assert choosing_classes_in('raise InvalidArgument("no", reason=REASONS[kind])') == {InvalidArgument}
    assert choosing_classes_in('raise Conflict("no", reason=Reason.NO_MODEL)\nraise Conflict("no")') == set()


def test_the_page_of_errors_has_every_class_and_every_reason() -> None:
    page = errors_page({Reason.BODY_TOO_LARGE: [InvalidArgument], Reason.NO_MODEL: [Conflict, Unavailable]})
    assert all(f"| {cls.__name__} | {status.http} | {status.grpc.name} |" in page for cls, status in TABLE.items())
    assert all(f"| `{reason.name}` |" in page for reason in Reason)
    assert "| `BODY_TOO_LARGE` | InvalidArgument | 413 | INVALID_ARGUMENT |" in page
    assert "| `NO_MODEL` | Conflict, Unavailable | 409, 503 | FAILED_PRECONDITION, UNAVAILABLE |" in page
    assert "| `INTERNAL` | bug | 500 | INTERNAL |" in page


def test_the_page_of_settings_has_every_variable_and_keeps_its_columns() -> None:
    page = settings_page({"weather": Settings})
    assert "## weather" in page
    assert "| `RAPPORT_WEATHER_STATION` | `north\\|south` | Which station. |" in page
    assert "| `RAPPORT_WEATHER_DATABASE_URL` |  | PostgreSQL" in page

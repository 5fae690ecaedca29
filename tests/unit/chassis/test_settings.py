"""Settings come from the environment, are checked, and are told."""

import pytest
from pydantic import Field, ValidationError

from chassis.settings import ServiceSettings, prefix_of, rows_of


class Settings(ServiceSettings):
    model_config = prefix_of("weather")

    station: str = Field(default="", description="Which station.")
    interval_s: float = Field(default=60.0, gt=0, description="Seconds between looks.")


def test_a_setting_is_read_under_the_service_s_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPPORT_WEATHER_STATION", "north")
    monkeypatch.setenv("RAPPORT_WEATHER_DATABASE_CONNECTIONS", "3")
    monkeypatch.setenv("RAPPORT_OTHER_INTERVAL_S", "1")
    settings = Settings()
    assert (settings.station, settings.database_connections, settings.interval_s) == ("north", 3, 60.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_CONNECTIONS", "0"),
        ("DATABASE_CONNECTIONS", "many"),
        ("INTERVAL_S", "0"),
        ("FAULT_RATIO", "1.5"),
        ("GRACE_S", "-1"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RAPPORT_WEATHER_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValidationError):
        Settings().station = "south"  # pyright: ignore[reportAttributeAccessIssue]


def test_every_setting_is_told_with_its_variable_its_default_and_its_meaning() -> None:
    rows = rows_of(Settings)
    assert ("RAPPORT_WEATHER_INTERVAL_S", "60.0", "Seconds between looks.") in rows
    assert ("RAPPORT_WEATHER_STATION", "", "Which station.") in rows
    assert len(rows) == len(Settings.model_fields)
    assert all(variable.startswith("RAPPORT_WEATHER_") and meaning.endswith(".") for variable, _, meaning in rows)

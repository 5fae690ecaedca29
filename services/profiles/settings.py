"""What an operator sets."""

from pydantic import Field

from chassis.settings import ServiceSettings, prefix_of


class Settings(ServiceSettings):
    """Read from RAPPORT_PROFILES_<FIELD>."""

    model_config = prefix_of("profiles")

    master_key_file: str = Field(
        default="master.key",
        description="File with 64 hexadecimal digits that wrap all keys; made where it is missing. Keep a copy.",
    )
    database_capacity_bytes: int = Field(
        default=0, ge=0, description="Size of the volume under PostgreSQL, for the alert that it fills up; 0: not known."
    )
    archive_folder: str = Field(default="archive", description="Folder for the Parquet archive, one folder a tenant below it.")

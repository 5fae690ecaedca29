"""What an operator sets."""

from pydantic import Field

from chassis.settings import KafkaSettings, prefix_of


class Settings(KafkaSettings):
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
    import_folder: str = Field(
        default="imports", description="Folder for files of import jobs, encrypted, until their job ends; replicas share it."
    )
    import_max_bytes: int = Field(default=100 << 30, ge=1, description="Most bytes of one file to import, decompressed.")
    kafka_partitions: int = Field(
        default=12, ge=1, le=1_000, description="Partitions of the topic that the relay makes; a tenant is in one of them."
    )
    kafka_replicas: int = Field(
        default=1, ge=1, le=9, description="Brokers that hold each partition of the topic that the relay makes."
    )

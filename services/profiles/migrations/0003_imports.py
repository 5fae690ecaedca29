"""Import jobs."""

from alembic import op

revision = "profiles_0003"
down_revision = "profiles_0002"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # `wrapped_key` opens the file and `mapping`, and is gone when the job has ended. `place` is where reading goes on: a byte
    # of the text, or a row of the Parquet file; `total` is where it ends. `planned_*` is the batch that was being taken.
    """
    CREATE TABLE profiles.import_jobs (
        tenant_id text NOT NULL, job_id uuid NOT NULL,
        state text NOT NULL CHECK (state IN ('uploading', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
        format text NOT NULL CHECK (format IN ('jsonl', 'csv', 'parquet')),
        source text NOT NULL, mapping bytea NOT NULL,
        wrapped_key bytea,
        created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz,
        size_bytes bigint NOT NULL DEFAULT 0,
        owner text NOT NULL DEFAULT '', lease_until timestamptz,
        attempts integer NOT NULL DEFAULT 0,
        cancel_requested boolean NOT NULL DEFAULT false,
        place bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0,
        planned_rows integer, planned_us bigint,
        row_count bigint NOT NULL DEFAULT 0,
        accepted_count bigint NOT NULL DEFAULT 0, duplicate_count bigint NOT NULL DEFAULT 0,
        rejected_count bigint NOT NULL DEFAULT 0, quarantined_count bigint NOT NULL DEFAULT 0,
        rows_per_s double precision NOT NULL DEFAULT 0,
        reason text NOT NULL DEFAULT '', field text NOT NULL DEFAULT '', message text NOT NULL DEFAULT '',
        PRIMARY KEY (tenant_id, job_id)
    ) WITH (fillfactor = 50)
    """,
    # One at a time for a tenant, whoever claims it.
    "CREATE UNIQUE INDEX import_jobs_running ON profiles.import_jobs (tenant_id) WHERE state = 'running'",
    "CREATE INDEX import_jobs_newest ON profiles.import_jobs (tenant_id, created_at DESC, job_id)",
    """
    CREATE INDEX import_jobs_open ON profiles.import_jobs (created_at) WHERE state IN ('uploading', 'queued', 'running')
    """,
    """
    CREATE TABLE profiles.import_rejections (
        tenant_id text NOT NULL, job_id uuid NOT NULL, row_number bigint NOT NULL,
        reason text NOT NULL, field text NOT NULL, message text NOT NULL,
        PRIMARY KEY (tenant_id, job_id, row_number)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

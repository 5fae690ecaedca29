"""A key's own pace, the time until which it is good, and which processes share a key's pace."""

from alembic import op

revision = "gateway_0002"
down_revision = "gateway_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # NULL: the setting's pace; no limit of events; good until it is revoked.
    op.execute("""
        ALTER TABLE gateway.keys
            ADD COLUMN requests_per_s double precision CHECK (requests_per_s > 0),
            ADD COLUMN events_per_s double precision CHECK (events_per_s > 0),
            ADD COLUMN expires timestamptz""")
    # Of no tenant: processes serve all of them.
    op.execute("CREATE TABLE gateway.replicas (replica_id uuid PRIMARY KEY, seen timestamptz NOT NULL)")

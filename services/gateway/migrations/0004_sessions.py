"""People who are signed in at the console."""

from alembic import op

revision = "gateway_0004"
down_revision = "gateway_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not (tenant_id, digest): a session's token comes alone, and says whose it is. Nothing here is an address or a name.
    op.execute("""
        CREATE TABLE gateway.sessions (
            digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
            tenant_id text NOT NULL REFERENCES gateway.tenants,
            subject text NOT NULL,
            roles text[] NOT NULL,
            started timestamptz NOT NULL,
            expires timestamptz NOT NULL
        )""")
    op.execute("CREATE INDEX sessions_by_end ON gateway.sessions (expires)")


def downgrade() -> None:
    op.execute("DROP TABLE gateway.sessions")

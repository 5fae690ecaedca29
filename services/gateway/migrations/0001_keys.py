"""Tenants, their keys, and what was answered under an Idempotency-Key."""

from alembic import op

revision = "gateway_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE gateway.tenants (
            tenant_id text PRIMARY KEY,
            clock text NOT NULL CHECK (clock IN ('wall', 'events')),
            created timestamptz NOT NULL DEFAULT now()
        )""")
    # Not (tenant_id, key_id): a key comes alone, and says whose it is.
    op.execute("""
        CREATE TABLE gateway.keys (
            key_id text PRIMARY KEY,
            tenant_id text NOT NULL REFERENCES gateway.tenants,
            kind text NOT NULL CHECK (kind IN ('write', 'private')),
            scopes text[] NOT NULL,
            digest bytea NOT NULL CHECK (octet_length(digest) = 32),
            created timestamptz NOT NULL DEFAULT now(),
            revoked timestamptz,
            last_used date
        )""")
    op.execute("CREATE INDEX keys_of_tenant ON gateway.keys (tenant_id, created)")
    op.execute("""
        CREATE TABLE gateway.idempotency (
            tenant_id text NOT NULL,
            key text NOT NULL,
            digest bytea NOT NULL,
            started timestamptz NOT NULL,
            answer bytea,
            PRIMARY KEY (tenant_id, key)
        )""")
    op.execute("CREATE INDEX idempotency_by_age ON gateway.idempotency (started)")

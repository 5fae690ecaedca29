"""What people allowed, and what each purpose stands on."""

from alembic import op

revision = "profiles_0009"
down_revision = "profiles_0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # All that was ever said: a projection of the log.
    """
    CREATE TABLE profiles.consents (
        tenant_id text NOT NULL, node_id uuid NOT NULL, purpose text NOT NULL, channel text NOT NULL,
        event_id bytea NOT NULL, state text NOT NULL, source text NOT NULL, proof_version text NOT NULL,
        ts timestamptz NOT NULL, recorded_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, node_id, purpose, channel, event_id)
    )
    """,
    """
    CREATE TABLE profiles.purposes (
        tenant_id text NOT NULL, purpose text NOT NULL, description text NOT NULL, legal_basis text NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, purpose)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")

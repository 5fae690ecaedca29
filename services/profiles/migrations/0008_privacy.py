"""Erasures, and the right to delete a person's events from the log."""

from alembic import op

revision = "profiles_0008"
down_revision = "profiles_0007"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Kept for ever: the proof. It names the person by pseudonyms only.
    """
    CREATE TABLE profiles.erasures (
        tenant_id text NOT NULL, erasure_id uuid NOT NULL,
        profile_id uuid NOT NULL, node_ids uuid[] NOT NULL,
        reason text NOT NULL, actor text NOT NULL,
        requested_at timestamptz NOT NULL DEFAULT now(), destroyed_at timestamptz, completed_at timestamptz,
        services text[] NOT NULL, confirmed text[] NOT NULL DEFAULT '{}',
        -- Rows deleted, by table or folder.
        stores jsonb NOT NULL DEFAULT '{}',
        PRIMARY KEY (tenant_id, erasure_id)
    )
    """,
    "CREATE UNIQUE INDEX erasures_open ON profiles.erasures (tenant_id, profile_id) WHERE completed_at IS NULL",
    "CREATE INDEX erasures_newest ON profiles.erasures (tenant_id, requested_at DESC, erasure_id DESC)",
    # profiles may add to the log and read it, and nothing else but this.
    """
    CREATE FUNCTION log.erase(tenant text, keys uuid[], upto timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        gone bigint;
    BEGIN
        DELETE FROM log.events WHERE tenant_id = tenant AND key = ANY(keys) AND received_at <= upto;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION log.erase(text, uuid[], timestamptz) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION log.erase(text, uuid[], timestamptz) TO rapport_profiles",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")

"""Who changed what: rows can be added and read, and nothing else."""

from alembic import op

revision = "gateway_0003"
down_revision = "gateway_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE gateway.audit (
            tenant_id text NOT NULL,
            audit_id bigint NOT NULL,
            at timestamptz NOT NULL,
            actor text NOT NULL, action text NOT NULL, target text NOT NULL, request_id text NOT NULL,
            -- Of a row that tells how a request ended: which one, and with what status.
            answers bigint, status int,
            -- SHA-256 over the row and the hash of the row before.
            hash bytea NOT NULL CHECK (octet_length(hash) = 32),
            PRIMARY KEY (tenant_id, audit_id)
        )""")
    op.execute("CREATE UNIQUE INDEX audit_answers ON gateway.audit (tenant_id, answers) WHERE answers IS NOT NULL")
    op.execute("REVOKE UPDATE, DELETE ON gateway.audit FROM rapport_gateway")
    # The owner may not by mistake either; who drops this trigger is found by the hashes.
    op.execute("""
        CREATE FUNCTION gateway.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'insufficient_privilege';
        END
        $$""")
    op.execute("""
        CREATE TRIGGER audit_is_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON gateway.audit
        FOR EACH STATEMENT EXECUTE FUNCTION gateway.refuse_change()""")


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")

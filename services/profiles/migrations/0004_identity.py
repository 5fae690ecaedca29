"""Identifiers of more kinds, and merges that can be undone."""

from alembic import op

revision = "profiles_0004"
down_revision = "profiles_0003"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # The first event that says so, to whom it makes a difference; null: learnt before this was written down.
    "ALTER TABLE profiles.links ADD COLUMN event_id bytea",
    "CREATE INDEX links_first ON profiles.links (tenant_id, node_a, since, event_id NULLS FIRST, node_b)",
    "CREATE INDEX links_first_reverse ON profiles.links (tenant_id, node_b, since, event_id NULLS FIRST, node_a)",
    # A person's word on two nodes: never one again, or that no longer. The newest counts.
    """
    CREATE TABLE profiles.identity_rulings (
        tenant_id text NOT NULL, node_a uuid NOT NULL, node_b uuid NOT NULL, event_id bytea NOT NULL,
        since timestamptz NOT NULL,
        is_parted boolean NOT NULL,
        PRIMARY KEY (tenant_id, node_a, node_b, event_id)
    )
    """,
    """
    CREATE TABLE profiles.identity_issues (
        tenant_id text NOT NULL, node_id uuid NOT NULL, kind text NOT NULL CHECK (kind IN ('shared', 'full')),
        since timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, node_id, kind)
    )
    """,
    # Identifiers that join nobody: whose they are, by the newest event that says so.
    """
    CREATE TABLE profiles.identifiers (
        tenant_id text NOT NULL, identifier_id uuid NOT NULL, node_id uuid NOT NULL,
        ts timestamptz NOT NULL, event_id bytea NOT NULL,
        PRIMARY KEY (tenant_id, identifier_id, node_id)
    )
    """,
    "CREATE INDEX identifiers_node ON profiles.identifiers (tenant_id, node_id)",
    # What group calls name, and who belongs to it since when.
    """
    CREATE TABLE profiles.accounts (
        tenant_id text NOT NULL, account_id uuid NOT NULL,
        first_seen timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, account_id)
    )
    """,
    """
    CREATE TABLE profiles.account_traits (
        tenant_id text NOT NULL, account_id uuid NOT NULL, key text NOT NULL,
        value jsonb NOT NULL,
        ts timestamptz NOT NULL, event_id bytea NOT NULL,
        PRIMARY KEY (tenant_id, account_id, key)
    )
    """,
    """
    CREATE TABLE profiles.account_members (
        tenant_id text NOT NULL, account_id uuid NOT NULL, node_id uuid NOT NULL,
        since timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, account_id, node_id)
    )
    """,
    "CREATE INDEX account_members_node ON profiles.account_members (tenant_id, node_id)",
    # A truth: what a tenant's people decided. JSON.
    """
    CREATE TABLE profiles.identity_rules (
        tenant_id text PRIMARY KEY,
        rules bytea NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

"""Features and traits that tenants define."""

from alembic import op

revision = "profiles_0007"
down_revision = "profiles_0006"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # A version is never changed; the one that is computed is the one that is not retired.
    """
    CREATE TABLE profiles.computed_traits (
        tenant_id text NOT NULL, trait_key text NOT NULL, version integer NOT NULL,
        definition bytea NOT NULL, digest text NOT NULL,
        owner text NOT NULL, purpose text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        retired_at timestamptz,
        PRIMARY KEY (tenant_id, trait_key, version)
    )
    """,
    "CREATE UNIQUE INDEX computed_traits_active ON profiles.computed_traits (tenant_id, trait_key) WHERE retired_at IS NULL",
    # All of a tenant's traits are one query, compiled when one of them changes.
    """
    CREATE TABLE profiles.computed_trait_queries (
        tenant_id text PRIMARY KEY,
        revision bigint NOT NULL,
        sql text NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

"""Suggestions of who may be the same person."""

from alembic import op

revision = "profiles_0005"
down_revision = "profiles_0004"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # `accept_from`: the probability from which suggestions are accepted without a person; null: none is.
    """
    CREATE TABLE profiles.match_runs (
        tenant_id text NOT NULL, run_id uuid NOT NULL,
        state text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'not_enough_data', 'failed')),
        accept_from double precision,
        created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz,
        owner text NOT NULL DEFAULT '', lease_until timestamptz,
        attempts integer NOT NULL DEFAULT 0,
        people_count bigint NOT NULL DEFAULT 0,
        suggested_count bigint NOT NULL DEFAULT 0, accepted_count bigint NOT NULL DEFAULT 0,
        message text NOT NULL DEFAULT '',
        PRIMARY KEY (tenant_id, run_id)
    )
    """,
    # One at a time for a tenant, whoever claims it.
    "CREATE UNIQUE INDEX match_runs_running ON profiles.match_runs (tenant_id) WHERE state = 'running'",
    "CREATE INDEX match_runs_open ON profiles.match_runs (created_at) WHERE state IN ('queued', 'running')",
    # `explanation`: what each comparison said, and no value. `decided_weight`: what the pair weighed when a person rejected it.
    """
    CREATE TABLE profiles.match_suggestions (
        tenant_id text NOT NULL, suggestion_id uuid NOT NULL,
        profile_a uuid NOT NULL, profile_b uuid NOT NULL,
        run_id uuid NOT NULL,
        weight double precision NOT NULL, probability double precision NOT NULL,
        explanation jsonb NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'accepted', 'rejected')),
        created_at timestamptz NOT NULL DEFAULT now(),
        decided_at timestamptz, decided_by text NOT NULL DEFAULT '', reason text NOT NULL DEFAULT '',
        decided_weight double precision,
        PRIMARY KEY (tenant_id, suggestion_id),
        UNIQUE (tenant_id, profile_a, profile_b)
    )
    """,
    """
    CREATE INDEX match_suggestions_heaviest ON profiles.match_suggestions (tenant_id, state, weight DESC, suggestion_id DESC)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

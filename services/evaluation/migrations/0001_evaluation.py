"""Experiments, what is kept of the log, evaluations, promotions."""

from alembic import op

from chassis.log import CURSOR_TABLE
from chassis.outbox import TABLE as OUTBOX_TABLE

revision = "evaluation_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    CURSOR_TABLE.format(schema="evaluation"),
    OUTBOX_TABLE.format(schema="evaluation"),
    """
    CREATE TABLE evaluation.experiments (
        tenant_id text NOT NULL, experiment_id text NOT NULL, hypothesis text NOT NULL,
        variant_keys text[] NOT NULL, variant_shares float8[] NOT NULL,
        outcome_event text NOT NULL, outcome_window_days int NOT NULL, margin float8 NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, experiment_id)
    )""",
    """
    CREATE TABLE evaluation.assignments (
        tenant_id text NOT NULL, experiment_id text NOT NULL, profile_id uuid NOT NULL,
        variant text NOT NULL, assigned_at timestamptz NOT NULL, exposed_at timestamptz,
        PRIMARY KEY (tenant_id, experiment_id, profile_id)
    )""",
    "CREATE INDEX assignments_by_profile ON evaluation.assignments (tenant_id, profile_id)",
    """
    CREATE TABLE evaluation.outcomes (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, name text NOT NULL, happened_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, profile_id, name, happened_at)
    )""",
    """
    CREATE TABLE evaluation.scores (
        tenant_id text NOT NULL, model text NOT NULL, version text NOT NULL, as_of timestamptz NOT NULL,
        profile_id uuid NOT NULL, probability float8 NOT NULL, logistic_probability float8, recency_days float8 NOT NULL,
        PRIMARY KEY (tenant_id, model, version, as_of, profile_id)
    )""",
    "CREATE INDEX scores_by_profile ON evaluation.scores (tenant_id, profile_id)",
    """
    CREATE TABLE evaluation.merged_profiles (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, into_id uuid NOT NULL,
        PRIMARY KEY (tenant_id, profile_id)
    )""",
    "CREATE INDEX merged_profiles_by_target ON evaluation.merged_profiles (tenant_id, into_id)",
    """
    CREATE TABLE evaluation.model_evaluations (
        tenant_id text NOT NULL, model text NOT NULL, version text NOT NULL, as_of timestamptz NOT NULL,
        evaluated_at timestamptz NOT NULL, evaluation jsonb NOT NULL,
        PRIMARY KEY (tenant_id, model, version, as_of)
    )""",
    """
    CREATE TABLE evaluation.promotions (
        tenant_id text NOT NULL, promotion_id bigint GENERATED ALWAYS AS IDENTITY,
        model text NOT NULL, registered_name text NOT NULL, from_version text NOT NULL, to_version text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('promotion', 'rollback')), actor text NOT NULL, reason text NOT NULL,
        digest text NOT NULL, feature_digest text NOT NULL, promoted_at timestamptz NOT NULL,
        pending_alias boolean NOT NULL,
        PRIMARY KEY (tenant_id, promotion_id)
    )""",
    "CREATE INDEX promotions_by_model ON evaluation.promotions (tenant_id, model, promotion_id)",
    "CREATE INDEX promotions_pending ON evaluation.promotions (promotion_id) WHERE pending_alias",
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")

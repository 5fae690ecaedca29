"""Surveys, answers, cases; who is in which segment; who became whom."""

from alembic import op

from chassis import log, outbox

revision = "feedback_0001"
down_revision = None

_TABLES = (
    """
    CREATE TABLE feedback.surveys (
        tenant_id text NOT NULL, survey_id text NOT NULL, kind text NOT NULL, question text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, survey_id)
    )""",
    # A comment is ciphertext under the key of its person; there is no other copy.
    """
    CREATE TABLE feedback.answers (
        tenant_id text NOT NULL, survey_id text NOT NULL, profile_id uuid NOT NULL, rating smallint NOT NULL,
        sealed bytea NOT NULL, answered_at timestamptz NOT NULL, revision int NOT NULL,
        PRIMARY KEY (tenant_id, survey_id, profile_id),
        FOREIGN KEY (tenant_id, survey_id) REFERENCES feedback.surveys
    )""",
    "CREATE INDEX answers_newest ON feedback.answers (tenant_id, survey_id, answered_at DESC, profile_id DESC)",
    "CREATE INDEX answers_by_profile ON feedback.answers (tenant_id, profile_id)",
    """
    CREATE TABLE feedback.cases (
        tenant_id text NOT NULL, case_id uuid NOT NULL, survey_id text NOT NULL, profile_id uuid NOT NULL,
        rating smallint NOT NULL, opened_at timestamptz NOT NULL, due_at timestamptz NOT NULL, closed_at timestamptz,
        closed_by text, PRIMARY KEY (tenant_id, case_id)
    )""",
    "CREATE INDEX cases_by_due ON feedback.cases (tenant_id, due_at, case_id)",
    "CREATE INDEX cases_open ON feedback.cases (tenant_id, due_at, case_id) WHERE closed_at IS NULL",
    "CREATE INDEX cases_by_profile ON feedback.cases (tenant_id, profile_id)",
    """
    CREATE TABLE feedback.memberships (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, segment_key text NOT NULL,
        PRIMARY KEY (tenant_id, profile_id, segment_key)
    )""",
    # What is still said of a profile that is gone counts for the one that it became.
    """
    CREATE TABLE feedback.merged_profiles (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, into_id uuid NOT NULL, PRIMARY KEY (tenant_id, profile_id)
    )""",
    "CREATE INDEX merged_into ON feedback.merged_profiles (tenant_id, into_id)",
    log.CURSOR_TABLE.format(schema="feedback"),
    outbox.TABLE.format(schema="feedback"),
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    for table in ("outbox", "log_cursor", "merged_profiles", "memberships", "cases", "answers", "surveys"):
        op.execute(f"DROP TABLE feedback.{table}")

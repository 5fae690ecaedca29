"""Whose node a row was before profiles merged, so that it finds back where they part."""

from alembic import op

revision = "recommendation_0002"
down_revision = "recommendation_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("purchases", "spending"):
        op.execute(f"ALTER TABLE recommendation.{table} ADD COLUMN node_id uuid")


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")

"""The service's role sees one tenant's rows."""

from alembic import op

from chassis.row_security import protect

revision = "feedback_0003"
down_revision = "feedback_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(protect("feedback"))


def downgrade() -> None:
    raise NotImplementedError("tenants are not laid open to each other")

"""What a segment is for: whom their consent leaves out of it is not shown as a member."""

from alembic import op

revision = "segmentation_0002"
down_revision = "segmentation_0001"


def upgrade() -> None:
    op.execute("ALTER TABLE segmentation.segments ADD COLUMN purpose text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE segmentation.segments ADD COLUMN channel text NOT NULL DEFAULT ''")


def downgrade() -> None:
    for column in ("purpose", "channel"):
        op.execute(f"ALTER TABLE segmentation.segments DROP COLUMN {column}")

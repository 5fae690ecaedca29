"""What is asked for before the tenant is known, whose rows the service would see."""

from alembic import op

revision = "gateway_0005"
down_revision = "gateway_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A key, and a session's token, comes alone, and says whose it is: all that is asked for before the tenant is known.
    for function, given, table, column in (
        ("key_of", "text", "keys", "key_id"),
        ("session_of", "bytea", "sessions", "digest"),
    ):
        op.execute(f"""
            CREATE FUNCTION gateway.{function}(given {given}) RETURNS SETOF gateway.{table}
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS 'SELECT * FROM gateway.{table} WHERE {column} = given'""")
        op.execute(f"REVOKE ALL ON FUNCTION gateway.{function}({given}) FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION gateway.{function}({given}) TO rapport_gateway")


def downgrade() -> None:
    raise NotImplementedError("tenants are not laid open to each other")

"""Alembic asks for this file; chassis/migrate.py configures and runs, so nothing is left to do here."""

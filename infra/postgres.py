"""The platform's PostgreSQL. Its parts: `cluster` (binaries, settings), `roles` (grants), `throwaway` (for tests)."""

from infra.cluster import Cluster
from infra.roles import DATABASE, ROLES, create_roles
from infra.throwaway import Temporary, temporary

__all__ = ["DATABASE", "ROLES", "Cluster", "Temporary", "create_roles", "temporary"]

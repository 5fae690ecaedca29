"""What the platform runs but did not write: PostgreSQL, MLflow, Prometheus, and the supervisor of one machine."""

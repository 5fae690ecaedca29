"""What evaluation asks of others, in its own words: profiles, the model registry (MLflow), the metrics source (Prometheus)."""

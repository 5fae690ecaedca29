"""Training: one module per model (`churn`), and what they share. Services may not import it."""

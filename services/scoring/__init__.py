"""Owns scores and which model gives them. Answers with probabilities and their reasons, or with why there is none."""

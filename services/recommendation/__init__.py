"""Owns what was bought with what, and what customers are worth. Answers with ranked items and the next best action."""

"""The rules of evaluation: pure, without clock, chance, wire or SQL."""

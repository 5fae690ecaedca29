"""Pure rules: the co-purchase model, ranking, the value of an action."""

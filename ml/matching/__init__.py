"""Which records are likely the same: records in, weighed pairs and clusters out. Knows kinds of columns, and no data set."""

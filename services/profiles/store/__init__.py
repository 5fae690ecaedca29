"""Tables and queries, a module for each group of tables. One method is one transaction."""

"""Tables and queries of the schema `evaluation`. One method is one transaction, and every statement names the tenant."""

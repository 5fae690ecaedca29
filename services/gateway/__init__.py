"""HTTP in, gRPC out: the one door of the platform.

Owns the tenants' names, the keys and what was answered under an Idempotency-Key (schema `gateway`). Answers for everything
that a customer of the platform asks; knows no rule of the domain, each is asked of the service that owns it.
"""

"""What `make run` feeds: a simulated shop, files of order lines or files of Segment calls, and the client that sends them.

Nothing here knows the platform from inside: it speaks the gateway's public HTTP API and no other.
"""

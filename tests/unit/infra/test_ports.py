"""Ports that stay free while the process that they are for is away."""

import socket

from infra.ports import HOST, free_port, is_free

# The first that Linux gives to outgoing connections, as it comes.
EPHEMERAL = 32_768


def test_a_port_is_given_once_and_to_no_connection() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert all(1024 < port < EPHEMERAL and is_free(port) for port in ports)


def test_a_taken_port_is_not_given() -> None:
    with socket.create_server((HOST, free_port() + 1)) as taken:
        assert free_port() != taken.getsockname()[1]

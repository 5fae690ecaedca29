"""What is sealed is opened by its own key, in its own place, and by nothing else."""

import hmac
import os
import stat
import uuid
from pathlib import Path

import pytest

from services.profiles.domain.identity import Namespace
from services.profiles.vault import KeyedHash, TenantKeys, Unreadable, Vault, open_sealed, read_master_key, seal

NODE, OTHER = uuid.uuid4(), uuid.uuid4()


def test_the_keyed_hash_is_hmac_sha256() -> None:
    for key in (b"", b"k" * 32, b"k" * 64):
        assert KeyedHash(key).digest(b"message") == hmac.digest(key, b"message", "sha256")


def test_a_sealed_text_opens_only_where_it_belongs() -> None:
    keys = TenantKeys("shop", os.urandom(32))
    wrapped, cipher = keys.new_wrapped_key(NODE)
    sealed = seal(cipher, b"ann@example.com", keys.of_event(b"e" * 16))
    assert b"ann" not in sealed
    assert open_sealed(keys.unwrap(NODE, wrapped), sealed, keys.of_event(b"e" * 16)) == b"ann@example.com"
    for broken, place in ((sealed, keys.of_event(b"f" * 16)), (sealed[:-1] + b"?", keys.of_event(b"e" * 16)), (b"", b"")):
        with pytest.raises(Unreadable):
            open_sealed(cipher, broken, place)


def test_a_persons_key_cannot_be_moved_to_another_person_or_tenant() -> None:
    key = os.urandom(32)
    wrapped, _ = TenantKeys("shop", key).new_wrapped_key(NODE)
    for keys, node in ((TenantKeys("shop", key), OTHER), (TenantKeys("other", key), NODE)):
        with pytest.raises(Unreadable):
            keys.unwrap(node, wrapped)


def test_a_tenants_key_opens_under_its_own_name_and_master_key_only() -> None:
    vault = Vault(os.urandom(32))
    wrapped = vault.new_wrapped_key("shop")
    vault.open_tenant("shop", wrapped)
    for other, name in ((vault, "other"), (Vault(os.urandom(32)), "shop")):
        with pytest.raises(Unreadable):
            other.open_tenant(name, wrapped)


def test_pseudonyms_differ_by_tenant_and_kind_and_stay_the_same() -> None:
    one, other = TenantKeys("a", b"1" * 32), TenantKeys("b", b"2" * 32)
    ids = {keys.node_id(namespace, "7") for keys in (one, other) for namespace in Namespace}
    assert len(ids) == 2 * len(Namespace)
    assert TenantKeys("a", b"1" * 32).node_id(Namespace.USER_ID, "7") == one.node_id(Namespace.USER_ID, "7")
    assert one.event_id("m") != one.fact_id("m")


def test_only_so_many_keys_are_remembered() -> None:
    keys = TenantKeys("shop", os.urandom(32))
    _, cipher = keys.new_wrapped_key(NODE)
    first, last = uuid.UUID(int=0), uuid.UUID(int=5000)
    keys.remember({uuid.UUID(int=number): cipher for number in range(5001)})
    assert set(keys.cached([first, last])) == {last}
    keys.forget(last)
    assert keys.cached([last]) == {}


def test_the_master_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = read_master_key(path)
    assert len(key) == 32
    assert read_master_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(ValueError, match="hexadecimal"):
        read_master_key(path)

"""Keys. The master key wraps the tenants' keys, a tenant's key wraps its people's, a person's key seals what is personal.

All sealing is AES-256-GCM with a random nonce of 12 bytes in front. What a sealed text belongs to is authenticated with
it, so that it cannot be moved to another tenant, person or event.
"""

import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.profiles.domain.identity import Namespace, node_id_of

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_BLOCK_BYTES: Final = 64
# A cached key costs 2.5 KB, most of it OpenSSL's; a node id 0.3 KB.
MAX_PEOPLE: Final = 4_096
MAX_NODE_IDS: Final = 16_384


Node: TypeAlias = tuple[UUID, str]


class Unreadable(Exception):
    """A sealed text that this key, or this place, does not open."""


def seal(cipher: AESGCM, plain: bytes, belongs_to: bytes) -> bytes:
    """Nonce and ciphertext."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, belongs_to)


def open_sealed(cipher: AESGCM, sealed: bytes, belongs_to: bytes) -> bytes:
    """The plaintext. Raises Unreadable."""
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], belongs_to)
    except (InvalidTag, ValueError):
        raise Unreadable from None


class KeyedHash:
    """HMAC-SHA256 (RFC 2104) with the key's two states kept: half the time of the standard library's."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, message: bytes) -> bytes:
        """32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class TenantKeys:
    """What only this tenant's key can do: name people by pseudonyms, and wrap their keys."""

    def __init__(self, tenant_id: str, key: bytes) -> None:
        self._tenant = tenant_id.encode()
        self._wrap = AESGCM(key)
        self._people_hash = KeyedHash(_derived(key, b"rapport identity"))
        # Keyed BLAKE2b (RFC 7693): a tenth of HMAC's time, for what nobody else has to compute.
        self._event_hash = blake2b(key=_derived(key, b"rapport events"), digest_size=16)
        self._nodes: dict[str, Node] = {}
        self._people: OrderedDict[UUID, AESGCM] = OrderedDict()
        self._barred: frozenset[UUID] = frozenset()

    def node_id(self, namespace: Namespace, value: str) -> UUID:
        """The pseudonym of an identifier."""
        return self.node(namespace, value)[0]

    def node(self, namespace: Namespace, value: str) -> "Node":
        """The pseudonym of an identifier, as itself and as text."""
        name = f"{namespace.label}:{value}"
        if (found := self._nodes.get(name)) is None:
            if len(self._nodes) >= MAX_NODE_IDS:
                self._nodes.clear()
            node_id = node_id_of(self._people_hash.digest(name.encode()), namespace)
            found = self._nodes[name] = (node_id, str(node_id))
        return found

    def account_id(self, group_id: str) -> UUID:
        """The pseudonym of an account. It is no person's node: the kind in its seventh byte is none of theirs."""
        raw = bytearray(self._people_hash.digest(b"group_id:" + group_id.encode())[:16])
        raw[6] = 0x8F
        raw[8] = (raw[8] & 0x3F) | 0x80
        return UUID(bytes=bytes(raw))

    def event_id(self, message_id: str) -> bytes:
        """16 bytes for a client's message id. What services record is hashed apart, so that no client can take its place."""
        return self._event_digest(b"message:" + message_id.encode())

    def fact_id(self, message_id: str) -> bytes:
        """16 bytes for the message id of a service."""
        return self._event_digest(b"fact:" + message_id.encode())

    def traits_digest(self, node_id: UUID, traits: bytes) -> bytes:
        """16 bytes that tell whether two calls say the same of a person, and nothing else to who has no key."""
        return self._event_digest(b"traits:" + node_id.bytes + traits)

    def _event_digest(self, text: bytes) -> bytes:
        state = self._event_hash.copy()
        state.update(text)
        return state.digest()

    def new_wrapped_key(self, node_id: UUID) -> tuple[bytes, AESGCM]:
        """A fresh key of a person: as it is stored, and ready for use. Not remembered before it is."""
        key = secrets.token_bytes(KEY_BYTES)
        return seal(self._wrap, key, self._tenant + node_id.bytes), AESGCM(key)

    def unwrap(self, node_id: UUID, wrapped: bytes) -> AESGCM:
        """A stored key. Raises Unreadable."""
        return AESGCM(open_sealed(self._wrap, wrapped, self._tenant + node_id.bytes))

    def cached(self, node_ids: Iterable[UUID]) -> dict[UUID, AESGCM]:
        """Those keys that are remembered."""
        found: dict[UUID, AESGCM] = {}
        for node_id in node_ids:
            if (cipher := self._people.get(node_id)) is not None:
                self._people.move_to_end(node_id)
                found[node_id] = cipher
        return found

    def remember(self, keys: dict[UUID, AESGCM]) -> None:
        """Keeps keys that are stored, the least used are let go."""
        self._people.update({node_id: key for node_id, key in keys.items() if node_id not in self._barred})
        while len(self._people) > MAX_PEOPLE:
            self._people.popitem(last=False)

    def forget(self, node_id: UUID) -> None:
        """Lets a key go that was destroyed, or never stored."""
        self._people.pop(node_id, None)

    def bar(self, node_ids: frozenset[UUID]) -> None:
        """From now on these are not remembered, and no others are barred: their keys are about to be destroyed."""
        self._barred = node_ids
        for node_id in node_ids:
            self.forget(node_id)

    def of_event(self, event_id: bytes) -> bytes:
        """What an event's sealed part is bound to."""
        return self._tenant + b"/" + event_id

    def of_text(self, node_id: UUID) -> bytes:
        """What a text sealed for another service is bound to."""
        return self._tenant + b"/text/" + node_id.bytes


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose).derive(key)


class Vault:
    """The master key."""

    def __init__(self, master: bytes) -> None:
        self._master = AESGCM(master)

    def new_wrapped_key(self, tenant_id: str) -> bytes:
        """A fresh tenant key as it is stored."""
        return seal(self._master, secrets.token_bytes(KEY_BYTES), tenant_id.encode())

    def open_tenant(self, tenant_id: str, wrapped: bytes) -> TenantKeys:
        """A tenant's keys. Raises Unreadable where the master key is not the one that wrapped them."""
        return TenantKeys(tenant_id, open_sealed(self._master, wrapped, tenant_id.encode()))


def read_master_key(path: Path) -> bytes:
    """64 hexadecimal digits in a file of mode 0600; made where the file is missing. Raises ValueError with a sentence."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        pass
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"The master key in {path} is not {2 * KEY_BYTES} hexadecimal digits.")
    return key

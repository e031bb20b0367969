"""Encryption of bodies: AES-256-GCM with a data key per tenant and day, which travels wrapped in front of what it encrypts.

An encrypted body is

    1 byte   format, 1
    40 bytes data key, wrapped by the key-encryption key (AES key wrap, RFC 3394)
    12 bytes nonce
    the rest ciphertext and tag

Because the wrapped key travels along, several ingress processes need not agree on a data key, and a reader needs nothing but
the key-encryption key. `body_key_id` names that key, the tenant and the day: `<key id>/<tenant>/<YYYY-MM-DD>`. Delivery and
tenant are authenticated too, so that a body cannot be moved to another delivery.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from kybstream.errors import KybStreamError
from kybstream.settings import EncryptionSettings

KEY_BYTES = 32
_FORMAT = b"\x01"
_WRAPPED_BYTES = KEY_BYTES + 8
_NONCE_BYTES = 12
_NONCES_AT_ONCE = 256
_pack_length = Struct(">I").pack
_OVERHEAD = len(_FORMAT) + _WRAPPED_BYTES + _NONCE_BYTES + 16
_MESSAGES_PER_KEY = 2**31
"""Random 96-bit nonces stay safe far beyond this; a new data key is drawn then (NIST SP 800-38D allows 2^32)."""


class UnknownKeyError(KybStreamError):
    """The key-encryption key of a body is not configured: no fault of the body, and of all bodies alike."""


class UndecryptableError(KybStreamError):
    """A body cannot be decrypted: it, its data key or its delivery was changed."""


@dataclass
class _DataKey:
    day: date
    cipher: AESGCM
    wrapped: bytes
    key_id: str
    # What is authenticated besides the body, before and after the delivery's id.
    before: bytes
    after: bytes
    used: int = 0


class BodyEncryptor:
    """Encrypts bodies under the active key-encryption key. One a process; not for several threads.

    Args:
        key_id: Name of the key-encryption key.
        key: The key, 32 bytes.
    """

    def __init__(self, key_id: str, key: bytes) -> None:
        self._key_id = key_id
        self._key = key
        self._data_keys: dict[str, _DataKey] = {}
        self._random = b""
        self._random_used = 0

    def __repr__(self) -> str:
        return f"BodyEncryptor({self._key_id!r})"

    def encrypt(self, body: bytes, *, tenant: str, delivery_id: str, day: date) -> tuple[bytes, str]:
        """The encrypted body and its `body_key_id`."""
        data_key = self._data_keys.get(tenant)
        if data_key is None or data_key.day != day or data_key.used >= _MESSAGES_PER_KEY:
            clear = AESGCM.generate_key(KEY_BYTES * 8)
            key_id = f"{self._key_id}/{tenant}/{day.isoformat()}"
            data_key = _DataKey(day, AESGCM(clear), aes_key_wrap(self._key, clear), key_id, *_around(tenant, key_id))
            self._data_keys[tenant] = data_key
        data_key.used += 1
        nonce = self._nonce()
        associated = b"".join((data_key.before, _associated(delivery_id), data_key.after))
        sealed = data_key.cipher.encrypt(nonce, body, associated)
        return b"".join((_FORMAT, data_key.wrapped, nonce, sealed)), data_key.key_id

    def _nonce(self) -> bytes:
        # The system's random bytes, fetched for many bodies at once: a call costs more than encrypting.
        if self._random_used >= len(self._random):
            self._random = os.urandom(_NONCE_BYTES * _NONCES_AT_ONCE)
            self._random_used = 0
        start = self._random_used
        self._random_used += _NONCE_BYTES
        return self._random[start : self._random_used]


class BodyDecryptor:
    """Decrypts bodies under any of the known key-encryption keys.

    Args:
        keys: Each 32 bytes, by name.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        # The data keys of a few days and tenants; unwrapping costs as much as decrypting.
        self._cipher = lru_cache(maxsize=1024)(self._unwrap)
        self._around = lru_cache(maxsize=1024)(_around)

    def __repr__(self) -> str:
        return f"BodyDecryptor({sorted(self._keys)!r})"

    def decrypt(self, sealed: bytes, *, tenant: str, delivery_id: str, body_key_id: str) -> bytes:
        """The body as it was sent.

        Raises:
            UnknownKeyError: The key is not among the known ones.
            UndecryptableError: The body, its data key or its delivery was changed.
        """
        name = body_key_id.partition("/")[0]
        if name not in self._keys:
            raise UnknownKeyError(
                f"a body is encrypted under the key {name!r}, which is not configured",
                hint="Add it to encryption.keys; keys that once encrypted must stay there to decrypt.",
            )
        if len(sealed) < _OVERHEAD or sealed[:1] != _FORMAT:
            raise UndecryptableError("the body has not the form of an encrypted one")
        wrapped, nonce, rest = _split(sealed)
        try:
            before, after = self._around(tenant, body_key_id)
            associated = b"".join((before, _associated(delivery_id), after))
            return self._cipher(name, wrapped).decrypt(nonce, rest, associated)
        except (InvalidTag, InvalidUnwrap):
            raise UndecryptableError("the body does not fit its key") from None

    def _unwrap(self, name: str, wrapped: bytes) -> AESGCM:
        return AESGCM(aes_key_unwrap(self._keys[name], wrapped))


def body_encryptor(settings: EncryptionSettings) -> BodyEncryptor | None:
    """What encrypts under the first key of the settings; None without keys."""
    return BodyEncryptor(settings.keys[0].id, settings.keys[0].key.reveal()) if settings.keys else None


def body_decryptor(settings: EncryptionSettings) -> BodyDecryptor:
    """What decrypts under any key of the settings."""
    return BodyDecryptor({key.id: key.key.reveal() for key in settings.keys})


def _split(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    wrapped_end = len(_FORMAT) + _WRAPPED_BYTES
    nonce_end = wrapped_end + _NONCE_BYTES
    return sealed[len(_FORMAT) : wrapped_end], sealed[wrapped_end:nonce_end], sealed[nonce_end:]


def _around(tenant: str, key_id: str) -> tuple[bytes, bytes]:
    """What is authenticated besides the body, before and after the delivery's id."""
    return _associated(tenant), _associated(key_id)


def _associated(part: str) -> bytes:
    raw = part.encode()
    return _pack_length(len(raw)) + raw

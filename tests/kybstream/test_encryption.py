from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.encryption import BodyDecryptor, BodyEncryptor, UndecryptableError, UnknownKeyError

KEY = bytes(range(32))
DAY = date(2026, 3, 1)
_NONCE = slice(41, 53)
"""After the format and the wrapped data key."""


@given(body=st.binary(max_size=300), tenant=st.text(min_size=1, max_size=8), delivery_id=st.text(min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_a_body_comes_back_for_its_own_delivery_only(body: bytes, tenant: str, delivery_id: str) -> None:
    """Tenant and delivery are authenticated with it: moved to another one, it cannot be read."""
    sealed, key_id = BodyEncryptor("k1", KEY).encrypt(body, tenant=tenant, delivery_id=delivery_id, day=DAY)
    decryptor = BodyDecryptor({"k1": KEY})
    assert decryptor.decrypt(sealed, tenant=tenant, delivery_id=delivery_id, body_key_id=key_id) == body
    for moved in ({"tenant": tenant + "x", "delivery_id": delivery_id}, {"tenant": tenant, "delivery_id": "x" + delivery_id}):
        with pytest.raises(UndecryptableError):
            decryptor.decrypt(sealed, body_key_id=key_id, **moved)


def test_no_nonce_is_used_twice() -> None:
    """Under one data key a nonce that repeats gives bodies away: over several fetches of random bytes, none does."""
    encryptor = BodyEncryptor("k1", KEY)
    sealed = [encryptor.encrypt(b"body", tenant="acme", delivery_id=str(number), day=DAY)[0] for number in range(2_000)]
    assert len({each[1:41] for each in sealed}) == 1, "one data key"
    assert len({each[_NONCE] for each in sealed}) == len(sealed)


def test_each_tenant_and_each_day_has_a_data_key_of_its_own() -> None:
    """And the id names key, tenant and day."""
    encryptor = BodyEncryptor("k1", KEY)
    made = [
        encryptor.encrypt(b"body", tenant=tenant, delivery_id="d", day=day)
        for tenant, day in (("acme", DAY), ("acme", date(2026, 3, 2)), ("other", DAY), ("acme", date(2026, 3, 2)))
    ]
    assert [key_id for _, key_id in made] == [
        "k1/acme/2026-03-01",
        "k1/acme/2026-03-02",
        "k1/other/2026-03-01",
        "k1/acme/2026-03-02",
    ]
    wrapped = [sealed[1:41] for sealed, _ in made]
    assert len(set(wrapped)) == 3
    assert wrapped[1] == wrapped[3]


def test_every_changed_byte_is_noticed() -> None:
    """Wherever it is: format, data key, nonce, body, tag."""
    sealed, key_id = BodyEncryptor("k1", KEY).encrypt(b"a body", tenant="acme", delivery_id="d", day=DAY)
    decryptor = BodyDecryptor({"k1": KEY})
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(UndecryptableError):
            decryptor.decrypt(bytes(changed), tenant="acme", delivery_id="d", body_key_id=key_id)


def test_a_key_that_is_not_there_is_told_from_a_body_that_is_damaged() -> None:
    """The first concerns all bodies, and is not the body's fault."""
    sealed, key_id = BodyEncryptor("k1", KEY).encrypt(b"a body", tenant="acme", delivery_id="d", day=DAY)
    with pytest.raises(UnknownKeyError, match="'k1'"):
        BodyDecryptor({"k2": KEY}).decrypt(sealed, tenant="acme", delivery_id="d", body_key_id=key_id)
    with pytest.raises(UndecryptableError):
        BodyDecryptor({"k1": bytes(32)}).decrypt(sealed, tenant="acme", delivery_id="d", body_key_id=key_id)


def test_keys_are_not_in_what_is_shown() -> None:
    """Neither of them tells its key in a log."""
    assert str(KEY) not in repr(BodyEncryptor("k1", KEY))
    assert str(KEY) not in repr(BodyDecryptor({"k1": KEY}))

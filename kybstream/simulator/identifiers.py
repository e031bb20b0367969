"""Ids in the form the providers give them, and the companies and persons that carry them. All of it is made up."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass

_BASE62 = string.digits + string.ascii_letters
_CHECK_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"


class Identifiers:
    """Text derived from the run and a name: the same run and name always give the same, another run gives another."""

    def __init__(self, seed: int, started_at: int) -> None:
        self._run = f"{seed}/{started_at}"

    def hexadecimal(self, name: str, length: int) -> str:
        """Lower-case hexadecimal digits."""
        return f"{self._number(name, length * 4):0{length}x}"

    def digits(self, name: str, length: int) -> str:
        """Decimal digits."""
        return f"{self._number(name, length * 4) % 10**length:0{length}d}"

    def base62(self, name: str, length: int) -> str:
        """Digits and letters of both cases."""
        number, text = self._number(name, length * 8), []
        for _ in range(length):
            number, digit = divmod(number, len(_BASE62))
            text.append(_BASE62[digit])
        return "".join(text)

    def timed(self, name: str, unix_seconds: int, tail: int) -> str:
        """A KYB id: eight hexadecimal digits of unix seconds, then `tail` more of no meaning."""
        return f"{unix_seconds:08x}{self.hexadecimal(name, tail)}"

    def _number(self, name: str, bits: int) -> int:
        digest = hashlib.shake_128(f"{self._run}/{name}".encode()).digest((bits + 7) // 8)
        return int.from_bytes(digest, "big") >> (-bits % 8)


@dataclass(frozen=True, kw_only=True)
class Company:
    """The company of one KYB case.

    Attributes:
        number: Counts the cases from 1; part of every made-up name.
        service_id: The KYB case.
        backoffice_id: `kyb_backoffice_id`, which ends in the digits of the creation time.
        account_id: The tenant's account at the provider, alike in all cases: `company_id` in the links.
    """

    number: int
    service_id: str
    backoffice_id: str
    account_id: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """One KYC subject."""

    number: int
    user_no: str
    user_num: str
    merchant_no: str
    sub_merchant_no: str
    country: str
    birth_date: str
    gender: str
    id_number: str


_COUNTRIES = ("CHN", "GBR", "DEU", "USA", "SGP", "BRA")


def make_company(ids: Identifiers, number: int, created_at: int) -> Company:
    """The company of the case with that number, created at that unix time."""
    return Company(
        number=number,
        service_id=ids.timed(f"case/{number}", created_at, 11),
        backoffice_id=f"kyb-{ids.base62(f'backoffice/{number}', 5)}{created_at}",
        account_id=ids.hexadecimal("account", 19),
    )


def make_person(ids: Identifiers, number: int) -> Person:
    """The subject with that number. The id number never has a valid checksum, so that it can be nobody's."""
    birth_date = f"19{60 + number % 40:02d}-{1 + number % 12:02d}-{1 + number % 28:02d}"
    return Person(
        number=number,
        user_no=ids.hexadecimal(f"user/{number}", 32),
        user_num="1" + ids.digits(f"user-num/{number}", 20),
        merchant_no="TEST000001",
        sub_merchant_no=f"MER1012301{1 + number % 3}",
        country=_COUNTRIES[number % len(_COUNTRIES)],
        birth_date=birth_date,
        gender=str(1 + number % 2),
        id_number=_invalid_id_number(birth_date, number),
    )


def id_number_is_valid(number: str) -> bool:
    """Whether an 18-character id number has the right check digit (ISO 7064, MOD 11-2)."""
    return number[-1] == _check_digit(number[:-1])


def _invalid_id_number(birth_date: str, number: int) -> str:
    stem = f"110101{birth_date.replace('-', '')}{number % 1000:03d}"
    return stem + ("0" if _check_digit(stem) != "0" else "1")


def _check_digit(stem: str) -> str:
    total = sum(int(digit) * weight for digit, weight in zip(stem, _CHECK_WEIGHTS, strict=True))
    return _CHECK_DIGITS[total % 11]

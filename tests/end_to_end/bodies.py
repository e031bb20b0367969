"""Webhooks of one case, as the providers would send them, and waiting for what becomes of the case."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from kybstream.privacy import Pseudonymiser, make_case_token
from sinks.query import Value
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

FIXTURES = Path(__file__).parents[1] / "fixtures"
MERCHANT, SUB_MERCHANT = "TEST000001", "MER10123012"

SUCCESS, PERMANENT_REJECTION, TEMPORARY_REJECTION = 1, 2, 3


def kyb(case_id: str, kind: str, *services: str) -> bytes:
    """A `service_initiated` or `service_resolved`."""
    status = "pending" if kind == "service_initiated" else "resolved"
    link = f"https://backoffice.thekyb.com/cases-detail?company_id=65e4&service_id={case_id}"
    content = {"kyb_backoffice_id": "kyb-1", "service_id": case_id, "type": kind, "status": status}
    return json.dumps(content | {"services": list(services or ["kyb_check"]), "link": link}).encode()


def kyc(user_no: str, status: int = SUCCESS, *, remark: str = "") -> bytes:
    """A registration callback."""
    example = json.loads((FIXTURES / "kyc" / "registration_callback.json").read_bytes())
    return json.dumps(example | {"userNo": user_no, "kycStatus": status, "remark": remark}).encode()


def new_user() -> str:
    """A userNo that no other test uses."""
    return uuid.uuid4().hex


def subject_of(user_no: str) -> str:
    """The pseudonym of that user."""
    return Pseudonymiser(b"pseudonym-key-of-acme").subject(MERCHANT, SUB_MERCHANT, user_no)


def token_for(case_id: str) -> str:
    """The case token of a case."""
    return make_case_token(case_id, b"case-token-key-of-acme")


async def send(stack: RunningStack, source: str, body: bytes, *, case_token: str | None = None) -> str:
    """Posts a webhook, which must be acknowledged, and returns the delivery's id."""
    answer = await stack.post(source, body, case_token=case_token)
    assert (answer.status, answer.text) == (200, "ok")
    assert answer.delivery_id
    return answer.delivery_id


async def link(stack: RunningStack, case_id: str, user_no: str, *more: str) -> None:
    """Registers a link as an operator does."""
    person = ("--user-no", user_no, "--merchant-no", MERCHANT, "--sub-merchant-no", SUB_MERCHANT)
    done = await stack.kyb_stream("links", "add", "--tenant", "acme", "--case", case_id, *person, *more)
    assert done.exit_code == 0, done.err
    assert user_no not in done.out + done.err


async def case_becomes(stack: RunningStack, case_id: str, **wanted: Value) -> dict[str, Value]:
    """Waits until `current_cases` shows a case with these values, and returns its row."""
    seen: dict[str, Value] = {}

    async def as_wanted() -> bool:
        for row in await stack.rows("current_cases", case_id=case_id):
            seen.update(row)
        return bool(seen) and all(seen[name] == value for name, value in wanted.items())

    try:
        await wait_until(as_wanted, 5, "the case is as wanted")
    except AssertionError:
        found = {name: seen.get(name) for name in wanted} if seen else "nothing"
        raise AssertionError(f"case {case_id} is {found}, not {wanted}") from None
    return seen


async def no_case(stack: RunningStack, case_id: str) -> bool:
    """Whether `current_cases` has no such case."""
    return not await stack.rows("current_cases", case_id=case_id)

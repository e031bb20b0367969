"""Hostile values: whatever bodies, links and tokens hold, and however often, each is counted once and costs bounded state."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import make_case_token
from schemas.codec import decode
from schemas.links import make_link, make_withdrawal
from schemas.records import Case
from streams.aside import is_aside
from streams.batching.records import Record as KafkaRecord
from streams.processing import CasesProcess, IntakeProcess
from tests.streams.pipeline import (
    NAMES,
    POLICIES,
    SERVICE_ID,
    START,
    SUBJECT,
    TOKEN,
    TOKEN_KEY,
    DictState,
    Door,
    Told,
    as_record,
    kyb_body,
    kyc_body,
    link_record,
)
from tests.streams.test_replay import PHASES

INTAKE_BYTES, CASE_BYTES = 512 * 1024, 256 * 1024
OUTPUT_BYTES, SNAPSHOT_BYTES = 96 * 1024, 64 * 1024
SECOND = timedelta(seconds=1)

_SIZES = st.sampled_from([1, 40, 600, 60_000])
_TEXTS = st.builds(lambda unit, size: unit * size, st.sampled_from(["x", "\N{GRINNING FACE}", "(all)", "c1."]), _SIZES)
_NESTED: st.SearchStrategy[object] = st.integers(1, 60).map(lambda depth: [[]] if depth == 1 else [[{"code": [0] * depth}]])
_VALUES = st.one_of(
    st.none(),
    _TEXTS,
    st.integers(-(10**30), 10**30),
    _SIZES.map(lambda size: [f"name {number}" for number in range(size)]),
    _SIZES.map(lambda size: [0] * size),
    _SIZES.map(lambda size: {f"key {number}": number for number in range(size)}),
    _NESTED,
)
_KYB = st.dictionaries(
    st.sampled_from(["type", "status", "services", "link", "uid", "description", "other"]), _VALUES, max_size=3
)
_KYC = st.dictionaries(
    st.sampled_from(["kycStatus", "kycType", "kycLevel", "kycFailJson", "firstName", "remark", "other"]), _VALUES, max_size=3
)


@st.composite
def floods(draw: st.DrawFn) -> list[KafkaRecord]:
    """A few hostile bodies and statements, each in some hundred variants of one company and of one or many persons."""
    door, records = Door(), []
    for _ in range(draw(st.integers(1, 4))):
        times, many = draw(st.sampled_from([1, 3, 130])), draw(st.booleans())
        kind, changes = draw(st.sampled_from(["kyb", "kyc", "link"])), {}
        if kind != "link":
            changes = draw(_KYB if kind == "kyb" else _KYC)
            if times > 3:  # a hundred mebibytes would only take time
                changes = {name: value for name, value in changes.items() if len(str(value)) < 2_000}
        for number in range(times):
            at = door.drawn * SECOND
            if kind == "link":
                case_id = f"case {number}" if many else SERVICE_ID
                made = make_withdrawal if draw(st.booleans()) else None
                records.append(
                    link_record(
                        made("acme", case_id, SUBJECT, withdrawn_at=START + at + number * SECOND)
                        if made
                        else make_link(
                            "acme", case_id, SUBJECT, expected_subjects=None, registered_at=START + at + number * SECOND
                        )
                    )
                )
            elif kind == "kyb":
                body = kyb_body(description=number) | changes | ({"status": f"status {number}"} if many else {})
                records.append(door.record(door.delivery(body, after=at)))
            else:
                body = kyc_body(address=str(number)) | changes | ({"userNo": f"{number}"} if many else {})
                token = draw(st.sampled_from([None, TOKEN, make_case_token(f"case-{number}", TOKEN_KEY)]))
                records.append(door.record(door.delivery(body, after=at, case_token=token)))
    return records


@given(records=floods(), again=st.integers(0, 5))
@settings(max_examples=25, deadline=None, phases=PHASES)
def test_hostile_values_are_counted_and_bounded(records: list[KafkaRecord], again: int) -> None:
    """Every delivery has its verdict, versions are 1..n of each case, no size is above what is documented."""
    process, state, told = IntakeProcess(POLICIES, NAMES), DictState(), Told()
    for record in [*records, *records[:again]]:
        result = process(0, [record], state)
        state.write(result.writes)
        told.outputs += result.outputs
    assert not [letter for letter in told.dead_letters if letter.reason == "failed"]
    assert max((len(value) for value in state.values.values()), default=0) < INTAKE_BYTES
    of_events = [len(output.value or b"") for output in told.outputs if output.topic != NAMES.dead_letters]
    assert max(of_events, default=0) < OUTPUT_BYTES
    raw = [record for record in records if record.topic == NAMES.raw]
    assert len({verdict.delivery_id for verdict in told.deliveries}) == len(raw)

    cases, versions, snapshots = CasesProcess(POLICIES, NAMES), dict[str, list[int]](), DictState()
    for output in [output for output in told.outputs if output.topic == NAMES.case_events]:
        result = cases(0, [as_record(output.topic, output.key, output.value)], snapshots)
        snapshots.write(result.writes)
        assert not result.dead
        for made in result.outputs:
            snapshot = decode(made.value or b"", Case)
            versions.setdefault(snapshot.case_id, []).append(snapshot.version)
            assert len(made.value or b"") < SNAPSHOT_BYTES
    assert max((len(value) for value in snapshots.values.values()), default=0) < CASE_BYTES
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    distinct = {(event.case_id, event.event_id) for event in told.case_events}
    assert sum(map(len, versions.values())) == len(distinct)


def test_the_same_alert_again_and_again_does_not_grow_an_entry() -> None:
    """Every eleven minutes for two days, twice over: each is an alert of its own, and the entry stays small."""
    door, process, state, told = Door(), IntakeProcess(POLICIES, NAMES), DictState(), Told()
    for number in range(260):
        body = kyb_body(type="ongoing_aml_webhook", status="resolved", uid=str(number % 2))
        result = process(0, [door.record(door.delivery(body, after=timedelta(minutes=11) * number))], state)
        state.write(result.writes)
        told.outputs += result.outputs
    assert {verdict.verdict for verdict in told.deliveries} == {"new"}
    main = [len(value) for key, value in state.values.items() if not is_aside(key)]
    assert max(main) < 16 * 1024
    assert max(map(len, state.values.values())) < 64 * 1024

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kybstream.privacy import make_case_token
from schemas.codec import decode_any
from schemas.links import make_link, make_withdrawal
from schemas.records import Case, DeadLetter, Delivery, Event
from streams.batching.records import Output
from streams.batching.records import Record as KafkaRecord
from streams.intake_state import REPLAY_MARGIN
from streams.processing import IntakeProcess
from tests.streams.pipeline import (
    NAMES,
    OTHER_SERVICE_ID,
    POLICIES,
    SERVICE_ID,
    START,
    TOKEN_KEY,
    DictState,
    Door,
    Told,
    kyb_body,
    kyc_body,
    link_record,
    run_intake,
    subject_of,
)

TOKENS = [None, make_case_token(SERVICE_ID, TOKEN_KEY), make_case_token(OTHER_SERVICE_ID, TOKEN_KEY), "c1.forged"]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking: it takes minutes here, and a history is short enough to read as it was drawn."""

PEOPLE = ("a" * 32, "b" * 32)


@st.composite
def kyb_deliveries(draw: st.DrawFn, door: Door, after: timedelta) -> KafkaRecord:
    """A KYB delivery, often one that was sent before."""
    kind = draw(st.sampled_from(["service_initiated", "service_resolved", "ongoing_aml_webhook", "ongoing_aml_webhook"]))
    status = "pending" if kind == "service_initiated" else "resolved"
    return door.record(door.delivery(kyb_body(type=kind, status=status), after=after))


@st.composite
def kyc_deliveries(draw: st.DrawFn, door: Door, after: timedelta) -> KafkaRecord:
    """A KYC delivery of one of two people, often one that was sent before, with or without tokens."""
    remark = draw(st.sampled_from(TOKENS))
    body = kyc_body(userNo=draw(st.sampled_from(PEOPLE)), kycStatus=draw(st.sampled_from([1, 3])), remark=remark)
    return door.record(door.delivery(body, after=after, case_token=draw(st.sampled_from(TOKENS))))


@st.composite
def malformed(draw: st.DrawFn, door: Door, after: timedelta) -> KafkaRecord:
    """A delivery that cannot be read, or a record that is none."""
    record = door.record(door.delivery(b"not json", after=after))
    return record if draw(st.booleans()) else msgspec.structs.replace(record, value=b"not avro")


@st.composite
def links(
    draw: st.DrawFn, after: timedelta, cases: tuple[str, ...] = (SERVICE_ID, OTHER_SERVICE_ID), *, withdrawals: bool = True
) -> KafkaRecord:
    """A link of one of the two people, registered or withdrawn."""
    case_id, subject = draw(st.sampled_from(cases)), subject_of(kyc_body(userNo=draw(st.sampled_from(PEOPLE))))
    if withdrawals and draw(st.booleans()):
        return link_record(make_withdrawal("acme", case_id, subject, withdrawn_at=START + after))
    return link_record(make_link("acme", case_id, subject, expected_subjects=None, registered_at=START + after))


@st.composite
def logs(draw: st.DrawFn) -> list[KafkaRecord]:
    """What a partition's intake reads in order, over as long as a replay may reach back."""
    door, made, after = Door(), [], timedelta(0)
    for _ in range(draw(st.integers(1, 10))):
        step = draw(st.sampled_from([timedelta(seconds=10), timedelta(minutes=11), timedelta(hours=20), timedelta(hours=73)]))
        after = min(after + step, REPLAY_MARGIN)
        # Receipt is not quite the order of the log: several ingresses, and spools that are emptied late.
        late = after - draw(st.sampled_from([timedelta(0), timedelta(0), timedelta(minutes=6), timedelta(hours=1)]))
        made.append(
            draw(
                st.one_of(
                    kyb_deliveries(door, late),
                    kyc_deliveries(door, late),
                    kyc_deliveries(door, late),
                    links(late),
                    links(late),
                    malformed(door, late),
                )
            )
        )
    return made


def identity(output: Output) -> tuple[str, str]:
    """What a consumer drops a second copy by."""
    record = decode_any(output.value or b"")
    match record:
        case Delivery():
            return output.topic, record.delivery_id
        case DeadLetter():
            return output.topic, record.dead_letter_id
        case Event():
            return output.topic, record.event_id
        case _:
            # An event of a case has its identity within the case: a callback that is moved keeps its id.
            return output.topic, f"{output.key!r} {msgspec.structs.asdict(record).get('event_id')}"


@given(data=st.data(), log=logs())
@settings(max_examples=150, deadline=None, phases=PHASES)
def test_the_intake_says_the_same_again_after_every_crash(data: st.DataObject, log: list[KafkaRecord]) -> None:
    """The same records byte for byte, and the same snapshots of the cases.

    Started again from any earlier offset, with the state it had written or without that of the last batch.
    """
    process, state = IntakeProcess(POLICIES, NAMES), DictState()
    undisturbed = run_intake(log)
    want = {identity(output): output for output in undisturbed.outputs}

    told = Told()
    offset, crashes = 0, 3
    while offset < len(log):
        size = data.draw(st.integers(1, len(log)))
        result = process(0, log[offset : offset + size], state)
        told.outputs += result.outputs
        crashed = crashes > 0 and data.draw(st.booleans())
        if not crashed or data.draw(st.booleans()):
            state.write(result.writes)
        offset = data.draw(st.integers(0, offset)) if crashed else offset + size
        crashes -= crashed

    got: dict[tuple[str, str], Output] = {}
    for output in told.outputs:
        assert got.setdefault(identity(output), output) == output
    assert got == want
    assert told.cases() == undisturbed.cases()


@given(data=st.data(), log=logs())
@settings(max_examples=30, deadline=None, phases=PHASES)
def test_a_batch_gives_what_its_records_give_one_by_one(data: st.DataObject, log: list[KafkaRecord]) -> None:
    """Where a log is cut into batches changes neither the records nor their order."""
    process, state, told = IntakeProcess(POLICIES, NAMES), DictState(), Told()
    offset = 0
    while offset < len(log):
        size = data.draw(st.integers(1, len(log)))
        result = process(0, log[offset : offset + size], state)
        state.write(result.writes)
        told.outputs += result.outputs
        offset += size
    assert told.outputs == run_intake(log).outputs


@given(data=st.data())
@settings(max_examples=80, deadline=None, phases=PHASES)
def test_when_a_link_is_read_makes_no_difference_to_the_cases(data: st.DataObject) -> None:
    """Wherever links fall between deliveries, each case of the KYB provider ends the same; `placements` alone tells the way.

    Deliveries and links come from two topics. It holds as long as all that was said of a person names one case.
    """
    token = make_case_token(SERVICE_ID, TOKEN_KEY)
    door, raw, after = Door(), [], timedelta(0)
    for _ in range(data.draw(st.integers(1, 6))):
        after += data.draw(st.sampled_from([timedelta(seconds=10), timedelta(minutes=11), timedelta(hours=20)]))
        body = kyc_body(userNo=data.draw(st.sampled_from(PEOPLE)), kycStatus=data.draw(st.sampled_from([1, 3])))
        case_token = data.draw(st.sampled_from([None, token, "c1.forged"]))
        raw.append(door.record(door.delivery(body, after=after, case_token=case_token)))
    raw.append(door.record(door.delivery(kyb_body(type="service_resolved", status="resolved"), after=after)))
    registered = [
        data.draw(links(timedelta(minutes=3), (SERVICE_ID,), withdrawals=False)) for _ in range(data.draw(st.integers(1, 2)))
    ]

    def ending(log: list[KafkaRecord]) -> dict[str, Case]:
        return {
            key: msgspec.structs.replace(snapshot, placements=())
            for key, snapshot in run_intake(log).cases().items()
            if not snapshot.case_id.startswith("kyc:")
        }

    mixed = list(raw)
    for link in registered:
        mixed.insert(data.draw(st.integers(0, len(mixed))), link)
    assert ending(mixed) == ending(raw + registered)


def test_what_was_told_follows_from_what_is_remembered() -> None:
    """A kill after the state was written, and a link that is read before the callback then: one case has the result.

    The callback was remembered as unlinked, and nothing of it told. Read again after the link, it is told to the case of its
    own once more, the link moves it, and that case ends.
    """
    door = Door()
    callback = door.record(door.delivery(kyc_body()))
    registered = link_record(make_link("acme", SERVICE_ID, subject_of(kyc_body()), expected_subjects=None, registered_at=START))
    process, state, told = IntakeProcess(POLICIES, NAMES), DictState(), Told()
    state.write(process(0, [callback], state).writes)  # killed before the outputs
    for record in (registered, callback, registered):
        result = process(0, [record], state)
        state.write(result.writes)
        told.outputs += result.outputs
    cases = told.cases()
    assert cases[f"acme/{SERVICE_ID}"].kyc_status == "success"
    assert cases[f"acme/kyc:{subject_of(kyc_body())}"].outcome == "merged"

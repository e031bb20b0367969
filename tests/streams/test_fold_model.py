from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.codec import decode, encode
from schemas.records import Case, CaseEvent
from schemas.topics import case_key
from streams.batching.records import Output
from streams.cases import CaseState, case, case_policy
from streams.policy import TenantPolicy
from streams.processing import CasesProcess
from tests.streams.histories import DEADLINE, TENANT, histories
from tests.streams.model import Rules, expected_case
from tests.streams.pipeline import NAMES, DictState, as_record, nothing_aside


def expected(events: Sequence[CaseEvent], *, kyc_always: bool) -> Case:
    """What the model says of these events; a provisional case never waits for a company's KYC."""
    case_id = events[0].case_id
    rules = Rules(DEADLINE, kyc_always=kyc_always and not case_id.startswith("kyc:"))
    return expected_case(TENANT, case_id, events, rules)


def distinct(events: Sequence[CaseEvent]) -> list[CaseEvent]:
    """The events without repeats, in order of arrival."""
    return list({event.event_id: event for event in events}.values())


@given(data=st.data(), history=histories(), kyc_always=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_arrival_order_with_repeats_ends_in_the_snapshot_of_the_rules(
    data: st.DataObject, history: list[CaseEvent], *, kyc_always: bool
) -> None:
    """Each new event gives the model's snapshot of the set so far, versions 1..n; a known event gives nothing."""
    arrivals = data.draw(st.permutations(history))
    arrivals += data.draw(st.lists(st.sampled_from(history), max_size=4))
    policy = case_policy(deadline=DEADLINE, kyc_always=kyc_always, case_id=history[0].case_id)

    state: CaseState | None = None
    versions: list[int] = []
    for number, event in enumerate(arrivals):
        known = event.event_id in {before.event_id for before in arrivals[:number]}
        state, snapshot = case(state, event, policy, nothing_aside())
        if known:
            assert snapshot is None
        else:
            assert snapshot == expected(distinct(arrivals[: number + 1]), kyc_always=kyc_always)
            versions.append(snapshot.version)
    assert versions == list(range(1, len(history) + 1))


@given(data=st.data(), history=histories(max_size=7), kyc_always=st.booleans())
@settings(max_examples=80, deadline=None)
def test_batches_crashes_and_replays_make_no_difference_to_a_case(
    data: st.DataObject, history: list[CaseEvent], *, kyc_always: bool
) -> None:
    """The same versions carry the same bytes, and the last is the model's.

    However the log is cut into batches, and wherever a crash makes it start again, with or without the state it had written.
    """
    log = data.draw(st.permutations(history)) + data.draw(st.lists(st.sampled_from(history), max_size=3))
    policy = TenantPolicy(Pseudonymiser(b"k" * 16), (b"t" * 16,), deadline=DEADLINE, kyc_always=kyc_always)
    process, state = CasesProcess({TENANT: policy}, NAMES), DictState()
    records = [
        as_record(NAMES.case_events, case_key(event.tenant, event.case_id), encode(event), offset)
        for offset, event in enumerate(log)
    ]

    told: dict[int, bytes] = {}
    offset, crashes = 0, 3
    while offset < len(records):
        size = data.draw(st.integers(1, len(records)))
        result = process(0, records[offset : offset + size], state)
        for output in result.outputs:
            remember(told, output)
        crashed = crashes > 0 and data.draw(st.booleans())
        if not crashed or data.draw(st.booleans()):
            state.write(result.writes)
        if crashed:
            crashes -= 1
            offset = data.draw(st.integers(0, offset))
        else:
            offset += size
    assert sorted(told) == list(range(1, len(history) + 1))
    assert decode(told[len(history)], Case) == expected(distinct(history), kyc_always=kyc_always)


def remember(told: dict[int, bytes], output: Output) -> None:
    """Notes a snapshot; the same version must come with the same bytes."""
    value = output.value or b""
    version = decode(value, Case).version
    assert told.setdefault(version, value) == value
    assert output.key == case_key(TENANT, decode(value, Case).case_id).encode()


@given(history=histories())
@settings(max_examples=25, deadline=None)
def test_a_replay_gives_the_same_bytes(history: list[CaseEvent]) -> None:
    """The same log from the beginning again, from no state, gives the same records with the same headers."""
    policies = {TENANT: TenantPolicy(Pseudonymiser(b"k" * 16), (b"t" * 16,), deadline=DEADLINE)}
    records = [as_record(NAMES.case_events, case_key(TENANT, event.case_id), encode(event)) for event in history]
    first = CasesProcess(policies, NAMES)(0, records, DictState())
    again = CasesProcess(policies, NAMES)(0, records, DictState())
    assert first == again

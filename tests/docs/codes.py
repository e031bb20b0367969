"""The codes that our records hold, in words. `test_reference.py` holds them against the code that emits them."""

from __future__ import annotations

from schemas import expired
from schemas.providers import body, kyb
from streams import dead_lettering, flood, fold, folding, intake, linking, links, rejecting

DEAD_LETTER_REASONS = {
    body.NOT_JSON: "stage intake: the body is not JSON, nested too deeply, of more than 20,000 values, or cut off; a value that"
    " cannot be read is replaced",
    body.NOT_AN_OBJECT: "stage intake: the body is JSON, but not an object",
    body.NO_ENTITY: "stage intake: the body names no usable `service_id` (KYB) or `userNo` (KYC)",
    dead_lettering.TOO_LARGE: "stages intake, links and cases: a state or an output that follows from the record is larger "
    "than its topic takes; `detail` names the topic. A letter that is itself too large lacks the record's value, and says so",
    rejecting.UNDECRYPTABLE: "stage intake: the encrypted body, its data key or its delivery was changed",
    intake.ENTITY_MISMATCH: "stage intake: ingress and worker have different `tenants.pseudonym_key`, or versions of it",
    links.INVALID_LINK: (
        "stage links: a case that is none of the KYB provider's (of more than 512 characters, provisional, or blank), a time "
        "that no table can hold, or a negative number"
    ),
    rejecting.UNKNOWN_TENANT: "stages intake and links: the worker's configuration has no such tenant",
    rejecting.KEY_MISMATCH: "stages intake, links and cases: the record is keyed by something else than it is about",
    rejecting.UNDECODABLE: "stages intake, links and cases: the record is not what its topic promises",
    rejecting.FAILED: "stages intake, links and cases: an exception that nobody foresaw; `detail` names it and its place",
    expired.EXPIRED_UNREAD: (
        "stages intake, links, cases and sink: records expired before they were read; `origin_topic` and `detail` have their "
        "place, and there is nothing to replay ([what expired unread](../how-to/account-for-deliveries.md#what-expired-unread))"
    ),
    "no_value": "stage sink: a record without a value on a topic that is not compacted",
    "not_avro": "stage sink: the value is not single-object encoded Avro",
    "unknown_schema": "stage sink: no kept schema has the fingerprint",
    "wrong_record": "stage sink: a record of another kind than the topic's",
    "bad_body": "stage sink: the bytes do not fit their schema",
    "rejected_by_clickhouse": "stage sink: ClickHouse takes its neighbours, but not this record; `detail` has its error",
}

PLACEMENTS = {
    linking.OWN: "a KYB event: its case is its own `service_id`",
    linking.REGISTERED: "a registered link says so",
    linking.PATH_TOKEN: "the case token in the callback's URL says so",
    linking.REMARK_TOKEN: "the case token in `remark` says so",
    linking.LEARNED: "an earlier callback of this subject had a token",
    linking.UNLINKED: "nobody said anything: it is on a provisional case `kyc:<subject>`",
    linking.CONFLICT: "tokens of this one callback name different cases: it is on the provisional case",
    linking.AMBIGUOUS: "the subject was named for several cases and this callback names none: it is on the provisional case",
}

ANOMALIES = {
    folding.KYC_REGRESSION: "a temporary rejection came after a success or a permanent rejection; it did not change the status",
    folding.KYC_REVERSAL: "a success came after a permanent rejection, or the reverse; it did change the status",
    folding.KYC_UNKNOWN_STATUS: "a result whose `kycStatus` is missing or not 1, 2 or 3; it did not change the status",
    folding.CLOSED_AFTER_EXPIRY: "the case was completed or rejected after it had expired",
    fold.MORE_SUBJECTS_THAN_EXPECTED: "more persons are on the case than its newest registration said",
    folding.LINK_WITHDRAWN: "a registered link to the case was withdrawn, and nothing else names its person for the case",
    flood.EVENT_FLOOD: "so many events that do the same, or callbacks of one person, that not all are kept one by one",
    flood.MANY_PERSONS: "more persons than a case lists: those beyond the first hundred by pseudonym are the row `(others)`",
    flood.MANY_SERVICES: "more services that the document does not list than a case keeps: 8 of them are told",
    linking.TOKEN_DISAGREES_WITH_LINK: "a callback's token names another case than the registered link; the link decided",
    kyb.LINK_SERVICE_ID_MISMATCH: "the `service_id` in a KYB body's `link` is not the body's; the body's counted",
}

VIOLATIONS = {
    "missing": "a required field is absent or null",
    "type": "a value of another type than documented; it is left out of the event where it cannot be read",
    "too_long": (
        "a value longer than documented, or than an event holds: beyond 512 characters (128 bytes of `type`, `status`, "
        "`kycType`, `kycLevel`, `kycStatus`, 64 bytes of a service) it is its beginning, `…` and a digest of the whole"
    ),
    "too_many": (
        "`services` with more than 8 names that the document does not list, more than 50 unknown fields (`unknown_fields`), or "
        "more values in `kycFailJson` than are looked at (1,000) or told (32): the first count"
    ),
    "unreadable": "a text or number in it cannot be read: U+FFFD or null took its place, in an id an escape such as `\\ud83d`",
    "unknown": "a value that the document does not list (`type`, `status`, `services`, `kycStatus`); it is kept",
    "invalid": (
        "`kycFailJson` that is not JSON, a `link` of another case, a `case_token` or `remark` token that none of our keys "
        "made, or a service named `(all)`, as the views name totals: it gets a pair of parentheses more"
    ),
}

"""Looking at topics, and changing them: what aiokafka's admin client lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError, for_code
from aiokafka.protocol.admin import CreatePartitionsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from kybstream.errors import RunError
from kybstream.kafka import REQUEST_TIMEOUT_MS
from kybstream.operations.topic_changes import FoundTopic

_SET = 0
_COORDINATOR_SECONDS = 15.0
_LISTED_SECONDS = 15.0
_RIGHTS = "The user needs the rights to create, describe and alter topics and their configurations."


async def found_topics(admin: AIOKafkaAdminClient, names: Collection[str], keys: Collection[str]) -> dict[str, FoundTopic]:
    """Those of the topics that exist, with these keys of their configuration.

    Raises:
        RunError: Kafka refuses to tell.
        KafkaError: It does not answer.
    """
    # Of all topics: asked about one that is missing, a broker may make it.
    described = {each["topic"]: each for each in await admin.describe_topics() if each["topic"] in set(names)}
    if not described:
        return {}
    configs: dict[str, dict[str, str]] = {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(keys, "")) for name in sorted(described)]
    for answer in await admin.describe_configs(resources):
        for code, message, _kind, name, entries in answer.resources:
            _require(code, message, f"does not tell the configuration of topic {name}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return {
        name: FoundTopic(
            len(each["partitions"]), min(len(partition["replicas"]) for partition in each["partitions"]), configs[name]
        )
        for name, each in described.items()
    }


async def alter_config(admin: AIOKafkaAdminClient, topic: str, changes: Mapping[str, str]) -> None:
    """Sets these keys of a topic's configuration, and leaves the others.

    Raises:
        RunError: Kafka refuses.
        KafkaError: It does not answer.
    """
    # aiokafka has the older AlterConfigs only, which resets every key that it does not name.
    answer = await admin._send_to_controller(_AlterConfigs(topic, changes))  # noqa: SLF001 - its own calls do the same
    for code, message, _kind, name in answer.resources:
        _require(code, message, f"refuses {', '.join(f'{key}={value}' for key, value in changes.items())} for topic {name}")


async def add_partitions(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Gives a topic so many partitions in all, and returns when a broker lists them.

    Raises:
        RunError: Kafka refuses, or lists them not in time.
        KafkaError: It does not answer.
    """
    request = CreatePartitionsRequest([(topic, (partitions, None))], REQUEST_TIMEOUT_MS, validate_only=False)
    for name, code, message in (await admin._send_to_controller(request)).topic_errors:  # noqa: SLF001 - as above
        _require(code, message, f"refuses {partitions} partitions for topic {name}")
    if not await _has_partitions(admin, topic, partitions):
        raise RunError(f"Kafka does not list the new partitions of topic {topic}", hint="Run it again when it does.")


@retry(
    retry=retry_if_result(lambda listed: not listed),
    stop=stop_after_delay(_LISTED_SECONDS),
    wait=wait_fixed(0.1),
    retry_error_callback=lambda _: False,
)
async def _has_partitions(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> bool:
    [described] = await admin.describe_topics([topic])
    leaders = [each["leader"] for each in described["partitions"]]
    return len(leaders) == partitions and min(leaders) >= 0


@retry(
    retry=retry_if_exception_type(GroupCoordinatorNotAvailableError),
    stop=stop_after_delay(_COORDINATOR_SECONDS),
    wait=wait_fixed(0.2),
    reraise=True,
)
async def committed_offsets(admin: AIOKafkaAdminClient, group: str) -> dict[tuple[str, int], int]:
    """The committed offsets of a consumer group by topic and partition; those that have none are left out.

    Raises:
        KafkaError: Kafka does not answer. A new one makes the topic of offsets when it is asked first, which is waited for.
    """
    offsets = await admin.list_consumer_group_offsets(group)
    return {(place.topic, place.partition): each.offset for place, each in offsets.items() if each.offset >= 0}


@retry(
    retry=retry_if_exception_type(GroupCoordinatorNotAvailableError),
    stop=stop_after_delay(_COORDINATOR_SECONDS),
    wait=wait_fixed(0.2),
    reraise=True,
)
async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members a consumer group has.

    Raises:
        KafkaError: Kafka does not answer.
    """
    [answer] = await admin.describe_consumer_groups([group])
    return sum(len(members) for _code, _group, _state, _type, _protocol, members, *_ in answer.groups)


def _require(code: int, message: str | None, what: str) -> None:
    if code:
        error = for_code(code)
        raise RunError(f"Kafka {what} ({error.__name__}{f': {message}' if message else ''})", hint=_RIGHTS)


class _AlterConfigsResponse(Response):  # type: ignore[misc] # aiokafka publishes no types of its protocol
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _AlterConfigsStruct(RequestStruct):  # type: ignore[misc] # likewise
    """IncrementalAlterConfigs, version 0 (KIP-339)."""

    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterConfigs(Request[_AlterConfigsStruct]):  # type: ignore[misc] # likewise
    API_KEY = 44

    def __init__(self, topic: str, changes: Mapping[str, str]) -> None:
        self._topic = topic
        self._changes = changes

    def build(self, request_struct_class: type[_AlterConfigsStruct]) -> Any:
        changes = [(key, _SET, value) for key, value in self._changes.items()]
        return request_struct_class([(int(ConfigResourceType.TOPIC), self._topic, changes)], False)  # noqa: FBT003 - the protocol's

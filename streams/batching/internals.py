"""What of Faust, mode and aiokafka this package rests on, as data; `tests/streams/batching/test_internals.py` pins each.

When an upgrade fails there, read what changed and why it is listed here, then renew the entry and run the kill tests:

- a `Method` is one we override or call: its parameters must be the same;
- one with a `source` digest is one whose body we replaced or whose behaviour an argument of ours rests on: the first twelve
  hex digits of the SHA-256 of its source. Any change to it must be read;
- an `Attribute` is an instance attribute that a class declares by annotation.
"""

from __future__ import annotations

from typing import NamedTuple

TESTED_WITH = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


class Method(NamedTuple):
    """A function or method: `module:Qualified.name`, its parameters without `self`, and what we need it for."""

    where: str
    parameters: str
    why: str
    source: str = ""


class Attribute(NamedTuple):
    """An annotated attribute of a class: `module:Class`, name, and what we need it for."""

    where: str
    name: str
    why: str


_CONSUMER = "faust.transport.consumer:Consumer"
_THREAD = "faust.transport.consumer:ThreadDelegateConsumer"
_DRIVER = "faust.transport.drivers.aiokafka"
_RECOVERY = "faust.tables.recovery:Recovery"
_TABLE = "faust.tables.base:Collection"
_APP = "faust.app.base:App"
_BUILDER = "aiokafka.producer.message_accumulator:BatchBuilder"

METHODS = (
    # Delivery: replaced, to hand over chunks
    Method(f"{_CONSUMER}._drain_messages", "fetcher", "replaced: the loop that delivers", "44a2500309e8"),
    Method(f"{_CONSUMER}.getmany", "timeout", "replaced: what it did per record", "4b168d84882a"),
    Method(f"{_CONSUMER}._wait_next_records", "timeout", "fetches; waits while the flow is stopped", "6218e1969a63"),
    Method(f"{_CONSUMER}._to_message", "tp, record", "records of topics that are not ours"),
    Method(f"{_CONSUMER}.stop_flow", "", "extended: a rebalance or a stop begins", "cf7e875a2b0d"),
    Method(f"{_CONSUMER}.perform_seek", "", "extended: positions go back to the commits", "0e8c130ff4b0"),
    Method(f"{_CONSUMER}.wait_empty", "", "rebalances and stops wait for begun batches", "e4662fe24f09"),
    Method(f"{_THREAD}.seek_wait", "partitions", "sets a position back, in the consumer's thread"),
    Method(f"{_DRIVER}:AIOKafkaConsumerThread._seek_wait", "consumer, partitions", "sets _read_offset", "9d221e816d94"),
    Method(f"{_DRIVER}:Consumer._new_consumer_thread", "", "replaced: a daemon thread", "0870ec53dea7"),
    Method(f"{_DRIVER}:AIOKafkaConsumerThread._create_consumer", "loop", "extended: rests when idle", "a4dc6ba0681a"),
    Method(
        "faust.transport.consumer:ConsumerThread.on_partitions_assigned",
        "assigned, generation_id",
        "extended: pauses changelogs, in the thread",
    ),
    Method("aiokafka:AIOKafkaConsumer.pause", "partitions", "aiokafka fetches whatever is assigned and not paused"),
    Method("aiokafka.client:AIOKafkaClient.send", "node_id, request, group", "every fetch passes it; wrapped", "246b277687d7"),
    Method("mode.threads:WorkerThread.__init__", "service, kwargs", "extended: a daemon thread"),
    Method("mode.threads:WorkerThread.stop", "", "replaced: it blocks the event loop", "c80d8f1597fa"),
    Method("faust.types.tuples:ConsumerMessage.on_final_ack", "consumer", "overridden: finishes a range", "45d670b6a8ac"),
    Method(
        "faust.types.tuples:Message.__init__",
        "topic, partition, offset, timestamp, timestamp_type, headers, key, value, checksum, serialized_key_size, "
        "serialized_value_size, tp, time_in, time_out, time_total, generation_id",
        "called: one message for a chunk",
    ),
    Method("faust.types.tuples:Message.ack", "consumer, n", "calls on_final_ack once", "4751b72c4ed8"),
    Method("faust.streams:Stream.noack", "", "the agent acknowledges by itself"),
    Method("faust.streams:Stream.events", "", "the agent's input"),
    Method("faust.events:Event.ack", "", "step 5", "2d29a6eda87c"),
    # Commits: by ranges
    Method(f"{_CONSUMER}.force_commit", "topics, start_new_transaction", "asks the next three", "cc094614d22c"),
    Method(f"{_CONSUMER}._filter_tps_with_pending_acks", "topics", "extended: partitions with ranges", "f6f923977423"),
    Method(f"{_CONSUMER}._new_offset", "tp", "replaced: the end of the finished prefix", "1d2c7ea89a7a"),
    Method(f"{_CONSUMER}._should_commit", "tp, offset", "commits never go back", "5ce941793947"),
    Method(f"{_CONSUMER}._commit_offsets", "offsets, start_new_transaction", "extended: forgets ranges", "1a6979904118"),
    Method("aiokafka:AIOKafkaConsumer.commit", "offsets", "wrapped: metadata beside the offsets"),
    Method(
        "aiokafka.consumer.group_coordinator:GroupCoordinator.fetch_committed_offsets",
        "partitions",
        "reads the metadata back",
    ),
    Method(f"{_DRIVER}:AIOKafkaConsumerThread._commit", "offsets", "hands on our offsets as they are", "932852ce7a23"),
    Method("aiokafka.protocol.api:Request.prepare", "versions", "takes our version of a request where a broker has it"),
    # Tables and recovery
    Method(f"{_TABLE}._new_store_by_url", "url", "replaced: our store", "343a8125107d"),
    Method(f"{_TABLE}._changelog_topic_name", "", "must equal changelog.changelog_topic", "f341fe97037b"),
    Method(f"{_TABLE}.apply_changelog_batch", "batch", "replaced: chunks of the changelog"),
    Method(f"{_TABLE}.on_rebalance", "assigned, revoked, newly_assigned, generation_id", "asks the store"),
    Method(f"{_TABLE}.on_recovery_completed", "active_tps, standby_tps", "asks the store"),
    Method("faust.stores.base:Store.on_rebalance", "assigned, revoked, newly_assigned, generation_id", "overridden"),
    Method(f"{_RECOVERY}._add", "table, tp, offsets", "takes the store's offset unless it is None", "1584a197b11b"),
    Method(f"{_RECOVERY}._slurp_changelogs", "", "replaced: it reads what Faust's consumer reads", "7825c7e50f76"),
    Method(f"{_RECOVERY}._restart_recovery", "", "replaced: a recovery in bulk", "6bd8a8558a2d"),
    Method(f"{_RECOVERY}._publish_stats", "", "replaced: it tells of Faust's reading", "48939a846a9a"),
    Method(
        f"{_RECOVERY}.on_rebalance", "assigned, revoked, newly_assigned, generation_id", "starts a recovery", "aa4d997a1795"
    ),
    Method(f"{_RECOVERY}._wait", "coro, timeout", "ends when a rebalance or a stop begins, and cancels", "ec7429b70176"),
    Method(
        "mode.services:Service.wait_first",
        "coros, timeout",
        "a delivery ends when the flow stops, a recovery when a rebalance begins",
        "feade6a31f8a",
    ),
    Method(f"{_DRIVER}:credentials_to_aiokafka_auth", "credentials, ssl_context", "for the consumer of a recovery"),
    Method(f"{_DRIVER}:server_list", "urls, default_port", "for the consumer of a recovery"),
    Method(
        "aiokafka.consumer.fetcher:PartitionRecords._unpack_records", "", "positions pass what has no record", "b803e6d46480"
    ),
    Method(f"{_RECOVERY}.on_recovery_completed", "generation_id", "seeks, then resumes the flow", "6ef567acf072"),
    Method(f"{_THREAD}.highwaters", "partitions", "compares local state with its changelog"),
    # How far the commits are: aiokafka's own state, from another thread
    Method("aiokafka:AIOKafkaConsumer.highwater", "partition", "the way to a partition's state", "044275efc968"),
    Method("aiokafka.consumer.subscription_state:Assignment.state_value", "tp", "a partition's state", "183fea82ef48"),
    Method("aiokafka.consumer.subscription_state:TopicPartitionState.consumed_to", "position", "sets it", "c7b8f0f99ce9"),
    Method(f"{_DRIVER}:AIOKafkaConsumerThread._ensure_consumer", "", "the aiokafka consumer", "ff4a4c693b7e"),
    Method(f"{_RECOVERY}._set_recovery_started", "", "sets app.in_recovery", "bcfebf81ae13"),
    Method(f"{_APP}.on_rebalance_end", "", "ends app.rebalancing, after recovery", "b7ff69e1e377"),
    # The app
    Method(f"{_APP}._new_transport", "", "replaced: our consumer", "42db531312dd"),
    Method(f"{_APP}._new_producer_transport", "", "replaced: our producer", "eb3b4aa6a896"),
    Method(f"{_APP}._on_partitions_revoked", "revoked", "stops the flow, waits, commits", "d5c895bbe57d"),
    Method(f"{_APP}._on_partitions_assigned", "assigned, generation_id", "tables, then recovery", "de932b7927db"),
    Method(f"{_CONSUMER}.on_stop", "", "extended: not after a crash", "45b1d2210ce2"),
    Method(f"{_APP}._stop_consumer", "", "extended: not after a crash; stops the flow, waits, commits", "55854a5de12c"),
    Method(f"{_APP}._on_rebalance_when_stopped", "", "replaced: it would close the connections", "1b172d9af8ff"),
    Method("faust.topics:Topic.maybe_declare", "", "creates a changelog that is missing"),
    Method(f"{_APP}.create_event", "key, value, headers, message", "called by the schema"),
    Method(f"{_APP}.on_started", "", "extended; waits for recovery", "c03627f2dc44"),
    Method(
        "faust.serializers.schemas:Schema.compile",
        "app, on_key_decode_error, on_value_decode_error, default_propagate",
        "replaced: no decoding",
    ),
    Method("mode.services:Service.crash", "reason", "ends the app", "14980000465d"),
    Method("mode.services:Service.stop", "", "swallows cancellation: runner.py does not wait for it", "e17cd2b6bd01"),
    # The producer
    Method(f"{_DRIVER}:Producer._settings_extra", "", "replaced: acks=all, idempotence"),
    Method(f"{_DRIVER}:Producer._ensure_producer", "", "the aiokafka producer"),
    Method(f"{_DRIVER}:Producer.on_start", "", "extended: checks the topics"),
    Method("aiokafka:AIOKafkaProducer.create_batch", "", "called"),
    Method("aiokafka:AIOKafkaProducer.send_batch", "batch, topic, partition", "called; raises before it takes the batch"),
    Method("aiokafka:AIOKafkaProducer.partitions_for", "topic", "called"),
    Method(f"{_BUILDER}.append", "timestamp, key, value, headers", "takes a first record of any size", "657d76f55157"),
    Method(f"{_BUILDER}.close", "", "a closed batch does not linger"),
    Method(f"{_BUILDER}.record_count", "", "called"),
)

ATTRIBUTES = (
    Attribute(_CONSUMER, "_read_offset", "the next offset of each partition"),
    Attribute(_CONSUMER, "_committed_offset", "how far the commits are"),
    Attribute(_CONSUMER, "_unacked_messages", "what wait_empty waits for"),
    Attribute(_CONSUMER, "_waiting_for_ack", "wakes wait_empty"),
    Attribute(_CONSUMER, "_buffered_partitions", "partitions whose queue is full"),
    Attribute(_CONSUMER, "_active_partitions", "partitions that are read; a live set"),
    Attribute("faust.tables.manager:TableManager", "_recovery", "our recovery, made at its first use"),
    Attribute(_CONSUMER, "flow_active", "False during a rebalance and a stop"),
    Attribute(_CONSUMER, "suspend_flow", "ends a delivery"),
)

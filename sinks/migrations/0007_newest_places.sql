-- Where each partition goes on, without reading the table: the newest row of each partition, kept with the parts.
-- The sink asks for exactly this at a start (sinks/resume.py); a part has some rows of it, whatever its size. Time and offset are
-- one number, and the identity is one text, because both are then compared and kept at a third of the cost.
-- A ReplacingMergeTree drops rows when it merges, so it is made anew with each merge. Not with merges alone (a setting of newer
-- versions): parts with and without it are not merged with each other. A DELETE makes it anew, too; else ClickHouse refuses it.

ALTER TABLE ${database}.deliveries MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.deliveries ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(delivery_id)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.deliveries MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.events MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.events ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(event_id)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.events MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.cases MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.cases ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(case_id), toString(version)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.cases MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.dead_letters MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.dead_letters ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(dead_letter_id)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.dead_letters MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.rejections MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.rejections ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(rejection_id)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.rejections MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.replays MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE ${database}.replays ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        max(bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset),
        argMax(concatWithSeparator('\n', toString(tenant), toString(replay_id)), bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset)
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.replays MATERIALIZE PROJECTION newest_places;

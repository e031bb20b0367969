-- Where each partition goes on, without reading the table: the newest row of each partition, kept with every part.
-- The sink asks for exactly this at a start (sinks/resume.py); a part has some rows of it, whatever its size.
-- A ReplacingMergeTree drops rows when it merges, so what is kept with the parts is made anew then.

ALTER TABLE ${database}.deliveries MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.deliveries ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(delivery_id)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.deliveries MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.events MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.events ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(event_id)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.events MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.cases MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.cases ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(case_id), toString(version)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.cases MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.dead_letters MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.dead_letters ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(dead_letter_id)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.dead_letters MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.rejections MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.rejections ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(rejection_id)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.rejections MATERIALIZE PROJECTION newest_places;

ALTER TABLE ${database}.replays MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE ${database}.replays ADD PROJECTION IF NOT EXISTS newest_places
(
    SELECT
        _topic,
        _partition,
        argMax(_offset, (_inserted_at, _offset)),
        argMax([toString(tenant), toString(replay_id)], (_inserted_at, _offset))
    GROUP BY _topic, _partition
);
ALTER TABLE ${database}.replays MATERIALIZE PROJECTION newest_places;

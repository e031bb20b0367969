-- When the rows of each part landed, so that those of a partition's newest insert are found without reading the table: whoever
-- takes the partition feeds them again to what is derived from it (sinks/derived.py). Old parts hold old landings alone.

ALTER TABLE ${database}.deliveries ADD INDEX IF NOT EXISTS landed _inserted_at TYPE minmax GRANULARITY 8;
ALTER TABLE ${database}.deliveries MATERIALIZE INDEX landed;

ALTER TABLE ${database}.events ADD INDEX IF NOT EXISTS landed _inserted_at TYPE minmax GRANULARITY 8;
ALTER TABLE ${database}.events MATERIALIZE INDEX landed;

ALTER TABLE ${database}.cases ADD INDEX IF NOT EXISTS landed _inserted_at TYPE minmax GRANULARITY 8;
ALTER TABLE ${database}.cases MATERIALIZE INDEX landed;

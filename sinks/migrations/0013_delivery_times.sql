-- A question about some days need not read all years: deliveries lie in order of their ids, and these in order of time.
ALTER TABLE ${database}.deliveries ADD INDEX IF NOT EXISTS by_time received_at TYPE minmax GRANULARITY 1;

ALTER TABLE ${database}.deliveries MATERIALIZE INDEX by_time;

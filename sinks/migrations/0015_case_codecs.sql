-- Quick codecs for what every question about cases reads whole (see 0014): times by T64, the rest by LZ4, where servers may compress
-- larger parts by ZSTD. `subjects` keeps the server's own: only questions about few cases read it. Parts that are there already
-- are rewritten at the end.
ALTER TABLE ${database}.case_states
    MODIFY COLUMN tenant CODEC(LZ4),
    MODIFY COLUMN case_id CODEC(LZ4),
    MODIFY COLUMN version CODEC(LZ4),
    MODIFY COLUMN match_state CODEC(LZ4),
    MODIFY COLUMN kyb_status CODEC(LZ4),
    MODIFY COLUMN kyc_status CODEC(LZ4),
    MODIFY COLUMN outcome CODEC(LZ4),
    MODIFY COLUMN services CODEC(LZ4),
    MODIFY COLUMN opened_at CODEC(T64),
    MODIFY COLUMN opened_at_source CODEC(LZ4),
    MODIFY COLUMN kyb_initiated_at CODEC(T64),
    MODIFY COLUMN kyb_resolved_at CODEC(T64),
    MODIFY COLUMN kyc_first_result_at CODEC(T64),
    MODIFY COLUMN kyc_final_at CODEC(T64),
    MODIFY COLUMN linked_at CODEC(T64),
    MODIFY COLUMN closed_at CODEC(T64),
    MODIFY COLUMN deadline_at CODEC(T64),
    MODIFY COLUMN updated_at CODEC(T64),
    MODIFY COLUMN placements CODEC(LZ4),
    MODIFY COLUMN resubmissions CODEC(LZ4),
    MODIFY COLUMN aml_alerts CODEC(LZ4),
    MODIFY COLUMN anomalies CODEC(LZ4),
    MODIFY COLUMN rank CODEC(LZ4);

ALTER TABLE ${database}.case_closings
    MODIFY COLUMN tenant CODEC(LZ4),
    MODIFY COLUMN case_id CODEC(LZ4),
    MODIFY COLUMN first_closed_at CODEC(T64),
    MODIFY COLUMN last_closed_at CODEC(T64);

OPTIMIZE TABLE ${database}.case_states FINAL;
OPTIMIZE TABLE ${database}.case_closings FINAL;

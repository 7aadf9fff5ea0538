-- Two more reasons for which a gateway rejects readings: a value that stands still, and a clock that is wrong. The sum over
-- all reasons is made anew, for the expression of a generated column cannot be changed.

ALTER TABLE aggregate
    DROP COLUMN rejected,
    ADD COLUMN rejected_stuck integer NOT NULL DEFAULT 0,
    ADD COLUMN rejected_clock integer NOT NULL DEFAULT 0;
ALTER TABLE aggregate
    ADD COLUMN rejected integer NOT NULL GENERATED ALWAYS AS (rejected_range + rejected_rate + rejected_hampel
        + rejected_late + rejected_future + rejected_duplicate + rejected_stuck + rejected_clock) STORED;

ALTER TABLE aggregate_hourly
    DROP COLUMN rejected,
    ADD COLUMN rejected_stuck bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected_clock bigint NOT NULL DEFAULT 0;
ALTER TABLE aggregate_hourly
    ADD COLUMN rejected bigint NOT NULL GENERATED ALWAYS AS (rejected_range + rejected_rate + rejected_hampel
        + rejected_late + rejected_future + rejected_duplicate + rejected_stuck + rejected_clock) STORED;

ALTER TABLE aggregate_daily
    DROP COLUMN rejected,
    ADD COLUMN rejected_stuck bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected_clock bigint NOT NULL DEFAULT 0;
ALTER TABLE aggregate_daily
    ADD COLUMN rejected bigint NOT NULL GENERATED ALWAYS AS (rejected_range + rejected_rate + rejected_hampel
        + rejected_late + rejected_future + rejected_duplicate + rejected_stuck + rejected_clock) STORED;

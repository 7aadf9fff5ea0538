-- What the gateways decided on irrigation, and why. A decision never changes.
--
-- There is no foreign key to field: a gateway decides for the fields of its own configuration, also for one that the
-- inventory does not have yet.

CREATE TABLE decision (
    farm_id      text NOT NULL REFERENCES farm (farm_id),
    decision_id  text NOT NULL,
    field_id     text NOT NULL,
    at           timestamptz NOT NULL,              -- end of the windows that it is based on
    cause        text NOT NULL CHECK (cause IN ('due', 'moist', 'rain', 'settling', 'hours', 'spent', 'small',
                     'untrusted', 'unconfirmed')),
    mm           double precision,                  -- water that leaves the system; null: the field is not irrigated
    minutes      integer,
    reason       text NOT NULL,
    depletion_mm double precision,                  -- missing in the root zone to field capacity; null: unknown
    total_mm     double precision NOT NULL,         -- between field capacity and wilting point
    readily_mm   double precision NOT NULL,         -- of it without stress
    rain_mm      double precision,                  -- of the last hours; null: nobody measures it
    probes       bigint NOT NULL,                   -- trusted
    untrusted    bigint NOT NULL,
    stations     jsonb NOT NULL,                    -- commanded; empty: it is advice
    PRIMARY KEY (farm_id, decision_id),
    CHECK ((cause = 'due') = (mm IS NOT NULL) AND (mm IS NULL) = (minutes IS NULL))
);
CREATE INDEX decision_newest ON decision (farm_id, at DESC, decision_id DESC);
CREATE INDEX decision_field ON decision (farm_id, field_id, at DESC, decision_id DESC);

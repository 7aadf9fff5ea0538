-- The model registry. Its metadata, its targets and its versions are shared by all farms (reference tables on many
-- machines); which gateway is to run what, and what it made of it, is the farm's.

-- The TUF metadata: what GET /tuf/metadata/ serves, byte for byte.
CREATE TABLE tuf_metadata (
    role      text NOT NULL CHECK (role IN ('root', 'targets', 'snapshot', 'timestamp')),
    version   bigint NOT NULL CHECK (version > 0),
    bytes     bytea NOT NULL,
    expires   timestamptz NOT NULL,
    published timestamptz NOT NULL,
    PRIMARY KEY (role, version)
);

-- What targets hold, by its digest. Stored plainly, so that a part of it is read without the rest.
CREATE TABLE blob (
    sha256 bytea PRIMARY KEY,
    bytes  bytea NOT NULL,
    CHECK (sha256 = sha256(bytes))
);
ALTER TABLE blob ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- A row is never changed: a version is what it was pushed as.
CREATE TABLE model_version (
    name            text NOT NULL,
    version         text NOT NULL,
    sha256          bytea NOT NULL REFERENCES blob (sha256),   -- the ONNX file
    manifest_sha256 bytea NOT NULL REFERENCES blob (sha256),   -- manifest.toml
    bytes           bigint NOT NULL,                           -- of the ONNX file
    parent          text,
    card            jsonb NOT NULL,                            -- the manifest without its golden samples
    pushed_at       timestamptz NOT NULL,                      -- by the wall clock: it is of no farm
    pushed_by       text NOT NULL,
    PRIMARY KEY (name, version),
    FOREIGN KEY (name, parent) REFERENCES model_version (name, version)
);
CREATE INDEX model_version_newest ON model_version (pushed_at DESC, name, version);

-- Which version a gateway is to run. Rows are only added: the one of the highest serial holds, the others say how it came
-- to be. A roll-back returns to what the row of back_to said.
CREATE TABLE assignment (
    farm_id       text NOT NULL,
    gateway_id    text NOT NULL,
    model         text NOT NULL,
    serial        bigint NOT NULL CHECK (serial > 0),
    version       text NOT NULL,
    shadow_s      bigint NOT NULL,
    min_agreement double precision NOT NULL,
    back_to       bigint,
    assigned_at   timestamptz NOT NULL,                        -- in farm time
    assigned_by   text NOT NULL,
    PRIMARY KEY (farm_id, gateway_id, model, serial),
    FOREIGN KEY (farm_id, gateway_id) REFERENCES gateway (farm_id, gateway_id),
    FOREIGN KEY (farm_id, gateway_id, model, back_to) REFERENCES assignment (farm_id, gateway_id, model, serial),
    FOREIGN KEY (model, version) REFERENCES model_version (name, version)
);

-- What gateways made of their models, as they reported it. The id is made of what the row says, so that a report that
-- comes again adds nothing.
CREATE TABLE model_event (
    farm_id    text NOT NULL,
    event_id   text NOT NULL,
    gateway_id text NOT NULL,
    model      text,                                           -- null: the registry as a whole
    kind       text NOT NULL CHECK (kind IN ('activated', 'shadow', 'refused', 'rolled_back')),
    at         timestamptz NOT NULL,                           -- in farm time
    version    text,
    reason     text,
    message    text NOT NULL,
    PRIMARY KEY (farm_id, event_id),
    FOREIGN KEY (farm_id, gateway_id) REFERENCES gateway (farm_id, gateway_id)
);
CREATE INDEX model_event_newest ON model_event (farm_id, at DESC, event_id DESC);

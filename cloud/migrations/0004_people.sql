-- People. app_user and session are small and shared by all farms (reference tables on many machines).

CREATE TABLE app_user (
    user_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash text NOT NULL,                  -- argon2id, PHC string
    role          text NOT NULL CHECK (role IN ('viewer', 'agronomist', 'operator', 'admin'))
);

CREATE TABLE membership (
    farm_id text NOT NULL REFERENCES farm (farm_id),
    user_id bigint NOT NULL REFERENCES app_user (user_id) ON DELETE CASCADE,
    PRIMARY KEY (farm_id, user_id)
);
CREATE INDEX membership_user ON membership (user_id);

-- The cookie bears the token; the table only its hash.
CREATE TABLE session (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    user_id      bigint NOT NULL REFERENCES app_user (user_id) ON DELETE CASCADE,
    created      timestamptz NOT NULL DEFAULT now(),
    expires      timestamptz NOT NULL
);
CREATE INDEX session_expires ON session (expires);

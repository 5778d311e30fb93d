-- +goose Up

-- What is known of the gateway at one hybrid connection ("namespace/path", lower
-- case), which several providers' relays may share: nothing of an action or a
-- provider. opened_at NULL: its breaker is closed. The held_ columns are set by
-- people and by nobody else.
CREATE TABLE gateway_health (
    relay           TEXT NOT NULL PRIMARY KEY,
    failures        INTEGER NOT NULL,
    failing_since   TIMESTAMP,
    opened_at       TIMESTAMP,
    probes          INTEGER NOT NULL,
    next_probe_at   TIMESTAMP,
    last_life_at    TIMESTAMP,
    last_phase      TEXT,
    last_failure_at TIMESTAMP,
    held_at         TIMESTAMP,
    held_by         TEXT,
    held_why        TEXT,
    updated_at      TIMESTAMP NOT NULL,
    CHECK ((held_at IS NULL) = (held_by IS NULL)),
    CHECK ((held_at IS NULL) = (held_why IS NULL))
);

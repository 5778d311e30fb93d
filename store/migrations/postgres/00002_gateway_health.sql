-- +goose Up

-- What is known of the gateway at one hybrid connection ("namespace/path", lower
-- case), which several providers' relays may share: nothing of an action or a
-- provider. opened_at NULL: its breaker is closed. The held_ columns are set by
-- people and by nobody else.
CREATE TABLE gateway_health (
    relay           TEXT NOT NULL PRIMARY KEY,
    failures        BIGINT NOT NULL,
    failing_since   TIMESTAMPTZ,
    opened_at       TIMESTAMPTZ,
    probes          BIGINT NOT NULL,
    next_probe_at   TIMESTAMPTZ,
    last_life_at    TIMESTAMPTZ,
    last_phase      TEXT,
    last_failure_at TIMESTAMPTZ,
    held_at         TIMESTAMPTZ,
    held_by         TEXT,
    held_why        TEXT,
    updated_at      TIMESTAMPTZ NOT NULL,
    CHECK ((held_at IS NULL) = (held_by IS NULL)),
    CHECK ((held_at IS NULL) = (held_why IS NULL))
);

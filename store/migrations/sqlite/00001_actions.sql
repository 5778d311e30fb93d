-- +goose Up

-- Which gateway a provider's actions go to. setting_id NULL is the provider's
-- default. The key itself is never stored: key_variable names the environment
-- variable that holds it; both key columns NULL means Entra ID.
CREATE TABLE relays (
    provider_id       TEXT NOT NULL,
    setting_id        TEXT,
    namespace         TEXT NOT NULL,
    hybrid_connection TEXT NOT NULL,
    key_name          TEXT,
    key_variable      TEXT,
    created_at        TIMESTAMP NOT NULL,
    updated_at        TIMESTAMP NOT NULL,
    CHECK ((key_name IS NULL) = (key_variable IS NULL))
);

CREATE UNIQUE INDEX relays_route ON relays (provider_id, COALESCE(setting_id, ''));

-- One row per action: where it stands, and the fence that keeps two deliveries
-- of it apart. A claim is alive while claimed_until is set and ahead; the
-- attempt_ columns then describe the open attempt.
CREATE TABLE actions (
    action_id              TEXT NOT NULL PRIMARY KEY,
    action_type            TEXT NOT NULL,
    creates                BOOLEAN NOT NULL,
    provider_id            TEXT NOT NULL,
    setting_id             TEXT,
    accession_number       TEXT NOT NULL,
    body_sha256            TEXT,
    sequence_number        INTEGER NOT NULL,
    enqueued_at            TIMESTAMP NOT NULL,
    received_at            TIMESTAMP NOT NULL,
    expires_at             TIMESTAMP,
    status                 TEXT NOT NULL CHECK (status IN ('pending', 'sent', 'confirmed', 'failed')),
    reason                 TEXT,
    last_phase             TEXT,
    last_error             TEXT,
    relay                  TEXT,
    sent_at                TIMESTAMP,
    confirmed_at           TIMESTAMP,
    failed_at              TIMESTAMP,
    updated_at             TIMESTAMP NOT NULL,
    duplicate              BOOLEAN NOT NULL,
    holds_accession        BOOLEAN NOT NULL,
    attempts               INTEGER NOT NULL,
    retry_count            INTEGER NOT NULL,
    postpone_count         INTEGER NOT NULL,
    next_retry_at          TIMESTAMP,
    attempt                INTEGER NOT NULL,
    counted_from           INTEGER NOT NULL,
    claimed_until          TIMESTAMP,
    attempt_started_at     TIMESTAMP,
    attempt_sent_at        TIMESTAMP,
    attempt_relay          TEXT,
    settlement             TEXT CHECK (settlement IN ('complete', 'retry', 'postpone', 'dead-letter')),
    settlement_reason      TEXT,
    settlement_description TEXT,
    settlement_sequence    INTEGER,
    CHECK ((status = 'confirmed') = (confirmed_at IS NOT NULL)),
    CHECK ((status = 'failed') = (failed_at IS NOT NULL)),
    CHECK (claimed_until IS NULL OR status IN ('pending', 'sent'))
);

-- One create per provider may hold an accession number: gateways answer a
-- second one with an item that belongs to somebody else.
CREATE UNIQUE INDEX actions_accession_held ON actions (provider_id, accession_number) WHERE holds_accession;
CREATE INDEX actions_accession ON actions (provider_id, accession_number, sequence_number);
CREATE INDEX actions_received ON actions (received_at, action_id);
CREATE INDEX actions_provider ON actions (provider_id, received_at, action_id);
CREATE INDEX actions_status ON actions (status, received_at, action_id);

-- One row per ended attempt. sent: 'no' certainly had no effect at the gateway,
-- 'maybe' may have arrived, 'yes' was acknowledged. Durations in microseconds,
-- zero where a step was not taken. code is the gateway's or relay's, zero for none.
CREATE TABLE attempts (
    action_id    TEXT NOT NULL REFERENCES actions (action_id),
    attempt      INTEGER NOT NULL,
    provider_id  TEXT NOT NULL,
    relay        TEXT,
    started_at   TIMESTAMP NOT NULL,
    sent_at      TIMESTAMP,
    ended_at     TIMESTAMP NOT NULL,
    sent         TEXT NOT NULL CHECK (sent IN ('no', 'maybe', 'yes')),
    answered     BOOLEAN NOT NULL,
    phase        TEXT,
    error        TEXT,
    code         INTEGER NOT NULL,
    reused       BOOLEAN NOT NULL,
    dns_us       INTEGER NOT NULL,
    connect_us   INTEGER NOT NULL,
    tls_us       INTEGER NOT NULL,
    handshake_us INTEGER NOT NULL,
    ack_us       INTEGER NOT NULL,
    result       TEXT NOT NULL CHECK (result IN ('confirmed', 'failed', 'retry', 'postpone', 'abandoned')),
    PRIMARY KEY (action_id, attempt)
);

-- What people, and the program on its own account, did to actions and relays.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          TIMESTAMP NOT NULL,
    who         TEXT NOT NULL,
    verb        TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    action_id   TEXT,
    relay       TEXT,
    why         TEXT NOT NULL,
    detail      TEXT NOT NULL
);

CREATE INDEX audit_action ON audit (action_id, id);

-- One row that is written to learn whether the database takes writes.
CREATE TABLE pulse (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at TIMESTAMP NOT NULL
);

-- For the producer's own application, to read and not to write.
CREATE VIEW worklist_outcomes AS
SELECT action_id, action_type, provider_id, setting_id, accession_number, status, reason, last_phase, attempts,
       enqueued_at, sent_at, confirmed_at, failed_at, duplicate, updated_at
FROM actions;

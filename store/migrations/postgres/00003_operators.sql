-- +goose Up

-- The dead letter, by sequence number, that the action was replayed from last:
-- whatever else is said of that one belongs to an earlier life. NULL: none.
ALTER TABLE actions ADD COLUMN replayed_sequence BIGINT;

-- The action ended outside of a delivery, and its outcome is yet to be told.
ALTER TABLE actions ADD COLUMN outcome_owed BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX actions_outcome_owed ON actions (updated_at) WHERE outcome_owed;
CREATE INDEX attempts_ended ON attempts (ended_at);
CREATE INDEX audit_relay ON audit (relay, id);

-- +goose Up

-- By the accession number first, which serves deliveries as well as it did, and
-- an operator who knows no provider.
DROP INDEX actions_accession;
CREATE INDEX actions_accession ON actions (accession_number, provider_id, sequence_number);

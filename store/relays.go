package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// Relay says which hybrid connection leads to a provider's gateway.
type Relay struct {
	ProviderID       string    `db:"provider_id" json:"provider_id"`
	SettingID        *string   `db:"setting_id" json:"setting_id"` // nil: the provider's default
	Namespace        string    `db:"namespace" json:"namespace"`   // host name, with a port where it is not 443
	HybridConnection string    `db:"hybrid_connection" json:"hybrid_connection"`
	KeyName          *string   `db:"key_name" json:"key_name"`         // nil, with KeyVariable: Entra ID
	KeyVariable      *string   `db:"key_variable" json:"key_variable"` // the environment variable that holds the key, never the key
	CreatedAt        time.Time `db:"created_at" json:"created_at"`     // set by the store
	UpdatedAt        time.Time `db:"updated_at" json:"updated_at"`     // set by the store
}

// Name is "namespace/path", as the relay columns of actions and attempts have it.
func (r Relay) Name() string { return r.Namespace + "/" + r.HybridConnection }

var (
	relayColumns = columnsOf(Relay{})
	selectRelays = "SELECT " + strings.Join(relayColumns, ", ") + " FROM relays "
	insertRelay  = "INSERT INTO relays (" + strings.Join(relayColumns, ", ") + ") VALUES (:" + strings.Join(relayColumns, ", :") + ")"
	replaceRelay = insertRelay + ` ON CONFLICT (provider_id, COALESCE(setting_id, '')) DO UPDATE SET
		namespace = excluded.namespace, hybrid_connection = excluded.hybrid_connection,
		key_name = excluded.key_name, key_variable = excluded.key_variable, updated_at = excluded.updated_at`
)

// Relay returns the relay of exactly this provider and setting, a nil setting
// being the provider's default, or [ErrNoRelay]. A setting without a relay of
// its own has none: the default would be another hospital.
func (s *Store) Relay(ctx context.Context, providerID string, settingID *string) (r Relay, err error) {
	err = s.db.GetContext(ctx, &r, selectRelays+"WHERE provider_id = $1 AND COALESCE(setting_id, '') = $2", providerID, orEmpty(settingID))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRelay
	}
	if err != nil {
		return Relay{}, fmt.Errorf("relay of %s: %w", route(providerID, settingID), err)
	}
	inUTC(&r)
	return r, nil
}

// Relays lists the relays of a provider, or of all for "", in order.
func (s *Store) Relays(ctx context.Context, providerID string) ([]Relay, error) {
	relays := []Relay{}
	err := s.db.SelectContext(ctx, &relays, selectRelays+"WHERE $1 = '' OR provider_id = $1 ORDER BY provider_id, COALESCE(setting_id, '')", providerID)
	if err != nil {
		return nil, fmt.Errorf("list relays: %w", err)
	}
	for i := range relays {
		inUTC(&relays[i])
	}
	return relays, nil
}

// AddRelay adds a relay, or returns [ErrRelayExists].
func (s *Store) AddRelay(ctx context.Context, r Relay, by By) error {
	return s.putRelay(ctx, r, by, "add relay", insertRelay)
}

// ReplaceRelay adds a relay in place of the one that its provider and setting
// may have.
func (s *Store) ReplaceRelay(ctx context.Context, r Relay, by By) error {
	return s.putRelay(ctx, r, by, "replace relay", replaceRelay)
}

func (s *Store) putRelay(ctx context.Context, r Relay, by By, verb, query string) error {
	err := r.check()
	if err == nil {
		err = s.write(ctx, func(tx *sqlx.Tx) error {
			r.CreatedAt = s.now()
			r.UpdatedAt = r.CreatedAt
			if _, err := tx.NamedExecContext(ctx, query, r); err != nil {
				return err
			}
			return appendAudit(ctx, tx, r.note(by, verb))
		})
	}
	if violatesUnique(err) {
		err = ErrRelayExists
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", verb, route(r.ProviderID, r.SettingID), err)
	}
	return nil
}

// PutRelays adds relays, all or none. One that is there already as it is given
// is left alone; one that differs is changed if replace says so, and else
// [ErrRelayExists]. It returns how many it added and how many it changed.
func (s *Store) PutRelays(ctx context.Context, relays []Relay, replace bool, by By) (added, changed int, err error) {
	err = s.write(ctx, func(tx *sqlx.Tx) error {
		for _, r := range relays {
			if err := r.check(); err != nil {
				return fmt.Errorf("relay of %s: %w", route(r.ProviderID, r.SettingID), err)
			}
			var known Relay
			err := tx.GetContext(ctx, &known, selectRelays+"WHERE provider_id = $1 AND COALESCE(setting_id, '') = $2", r.ProviderID, orEmpty(r.SettingID))
			r.CreatedAt = s.now()
			r.UpdatedAt = r.CreatedAt
			verb, query := "add relay", insertRelay
			switch {
			case errors.Is(err, sql.ErrNoRows):
				added++
			case err != nil:
				return err
			case known.Same(r):
				continue
			case !replace:
				return fmt.Errorf("relay of %s: %w", route(r.ProviderID, r.SettingID), ErrRelayExists)
			default:
				changed++
				verb, query = "replace relay", replaceRelay
			}
			if _, err := tx.NamedExecContext(ctx, query, r); err != nil {
				return err
			}
			if err := appendAudit(ctx, tx, r.note(by, verb)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("put relays: %w", err)
	}
	return added, changed, nil
}

// Same reports whether r leads where other does, with the same credential.
func (r Relay) Same(other Relay) bool {
	return r.Name() == other.Name() && orEmpty(r.KeyName) == orEmpty(other.KeyName) && orEmpty(r.KeyVariable) == orEmpty(other.KeyVariable)
}

func (r Relay) check() error {
	switch {
	case r.ProviderID == "" || r.Namespace == "" || r.HybridConnection == "":
		return errors.New("a relay needs a provider, a namespace and a hybrid connection")
	case r.SettingID != nil && *r.SettingID == "":
		return errors.New("an empty setting is not the default; leave it out")
	case orEmpty(r.KeyName) == "" != (orEmpty(r.KeyVariable) == ""):
		return errors.New("a key name and the variable that holds its key go together")
	}
	return nil
}

// RemoveRelay removes the relay of exactly this provider and setting, or
// returns [ErrNoRelay].
func (s *Store) RemoveRelay(ctx context.Context, providerID string, settingID *string, by By) error {
	const verb = "remove relay"
	err := s.write(ctx, func(tx *sqlx.Tx) error {
		var r Relay
		err := tx.GetContext(ctx, &r, `DELETE FROM relays WHERE provider_id = $1 AND COALESCE(setting_id, '') = $2
			RETURNING provider_id, setting_id, namespace, hybrid_connection`, providerID, orEmpty(settingID))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoRelay
		}
		if err != nil {
			return err
		}
		r.CreatedAt = s.now()
		r.UpdatedAt = r.CreatedAt
		return appendAudit(ctx, tx, r.note(by, verb))
	})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", verb, route(providerID, settingID), err)
	}
	return nil
}

// note is an audit entry about this relay, at the time of its last change.
func (r Relay) note(by By, verb string) AuditEntry {
	name := r.Name()
	return AuditEntry{At: r.UpdatedAt, Who: by.Who, Verb: verb, ProviderID: r.ProviderID, Relay: &name, Why: by.Why, Detail: route(r.ProviderID, r.SettingID)}
}

// route names a provider and setting for people.
func route(providerID string, settingID *string) string {
	if settingID == nil {
		return providerID + " (default)"
	}
	return providerID + " " + *settingID
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

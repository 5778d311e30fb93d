package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// ActionFilter selects actions. Zero fields select everything.
type ActionFilter struct {
	ProviderID      string // "" means every provider: for operators only
	Status          Status
	Relay           string // "namespace/path", or the path or its last segments; case does not matter
	AccessionNumber string
	ActionID        string
	Reason          string    // of a failed end; case does not matter
	Phase           string    // of the latest failure
	Since, Until    time.Time // first received at or after Since, before Until
	Overdue         time.Time // pending or sent, with the next try before this: stranded
	Limit           int       // 0 means 100
}

// Actions lists what the filter selects, newest first.
func (s *Store) Actions(ctx context.Context, f ActionFilter) ([]Action, error) {
	query, args := f.query()
	actions := []Action{}
	if err := s.db.SelectContext(ctx, &actions, query, args...); err != nil {
		return nil, fmt.Errorf("list actions: %w", err)
	}
	for i := range actions {
		actions[i] = actions[i].utc()
	}
	return actions, nil
}

// CountActions tells how many actions the filter selects, whatever its limit.
func (s *Store) CountActions(ctx context.Context, f ActionFilter) (n int, err error) {
	where, args := f.where()
	if err := s.db.GetContext(ctx, &n, "SELECT count(*) FROM actions "+where, args...); err != nil {
		return 0, fmt.Errorf("count actions: %w", err)
	}
	return n, nil
}

func (f ActionFilter) query() (string, []any) {
	where, args := f.where()
	if f.Limit == 0 {
		f.Limit = 100
	}
	args = append(args, f.Limit)
	return selectAction + where + fmt.Sprintf(" ORDER BY received_at DESC, action_id DESC LIMIT $%d", len(args)), args
}

func (f ActionFilter) where() (string, []any) {
	var where []string
	var args []any
	add := func(wanted bool, condition string, arg any) {
		if wanted {
			args = append(args, arg)
			where = append(where, strings.ReplaceAll(condition, "$$", fmt.Sprintf("$%d", len(args))))
		}
	}
	add(f.ProviderID != "", "provider_id = $$", f.ProviderID)
	add(f.Status != "", "status = $$", f.Status)
	add(f.Reason != "", "lower(reason) = $$", strings.ToLower(f.Reason))
	add(f.Phase != "", "last_phase = $$", f.Phase)
	add(f.AccessionNumber != "", "accession_number = $$", f.AccessionNumber)
	add(f.ActionID != "", "action_id = $$", strings.ToLower(f.ActionID))
	add(f.Relay != "", `'/' || lower(relay) LIKE $$ ESCAPE '\'`, "%/"+likeLiteral.Replace(strings.ToLower(f.Relay)))
	add(!f.Since.IsZero(), "received_at >= $$", micro(f.Since))
	add(!f.Until.IsZero(), "received_at < $$", micro(f.Until))
	add(!f.Overdue.IsZero(), "status IN ('pending', 'sent') AND COALESCE(claimed_until, next_retry_at, updated_at) < $$", micro(f.Overdue))
	if len(where) == 0 {
		return "", args
	}
	return "WHERE " + strings.Join(where, " AND "), args
}

var likeLiteral = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Action returns one action with its ended attempts and its audit entries,
// both in order, or [ErrNoAction]. An empty provider means any: for operators.
func (s *Store) Action(ctx context.Context, providerID, actionID string) (Action, []Attempt, []AuditEntry, error) {
	a, attempts, audit, err := s.action(ctx, providerID, strings.ToLower(actionID))
	if err != nil {
		return Action{}, nil, nil, fmt.Errorf("action %s: %w", actionID, err)
	}
	return a, attempts, audit, nil
}

func (s *Store) action(ctx context.Context, providerID, actionID string) (a Action, attempts []Attempt, audit []AuditEntry, err error) {
	found, err := s.Actions(ctx, ActionFilter{ProviderID: providerID, ActionID: actionID})
	if err != nil {
		return a, nil, nil, err
	}
	if len(found) == 0 {
		return a, nil, nil, ErrNoAction
	}
	if attempts, err = s.attemptsOf(ctx, actionID); err != nil {
		return a, nil, nil, err
	}
	audit, err = s.auditWhere(ctx, "action_id = $1", actionID)
	return found[0], attempts, audit, err
}

// Counts tells how many actions stand at each status, zeros included.
func (s *Store) Counts(ctx context.Context) (map[Status]int, error) {
	var rows []struct {
		Status Status `db:"status"`
		N      int    `db:"n"`
	}
	if err := s.db.SelectContext(ctx, &rows, "SELECT status, count(*) AS n FROM actions GROUP BY status"); err != nil {
		return nil, fmt.Errorf("count actions: %w", err)
	}
	counts := map[Status]int{Pending: 0, Sent: 0, Confirmed: 0, Failed: 0}
	for _, row := range rows {
		counts[row.Status] = row.N
	}
	return counts, nil
}

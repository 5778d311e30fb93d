package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// route is where an action goes and with what credential.
type route struct {
	hybridConnection relay.HybridConnection
	tokens           relay.TokenSource
}

// name is the hybrid connection as SQL and logs have it; "" for no route.
func (r route) name() string {
	if r.hybridConnection == (relay.HybridConnection{}) {
		return ""
	}
	return r.hybridConnection.String()
}

// ErrNoKey says that this process does not have the credential that a relay row names.
var ErrNoKey = errors.New("no credential")

// Tokens is the source of the tokens that a relay row names: the key in one of
// the variables that secret looks up ("" is unset), or Entra ID. nil: there is
// none of that kind. The error wraps [ErrNoKey] and names no secret.
func Tokens(row store.Relay, secret func(variable string) string, entra relay.TokenSource) (relay.TokenSource, error) {
	variable := value(row.KeyVariable)
	if variable == "" {
		if entra == nil {
			return nil, fmt.Errorf("%w: the relay names no key, and Entra ID is not configured", ErrNoKey)
		}
		return entra, nil
	}
	key := ""
	if secret != nil {
		key = secret(variable)
	}
	if key == "" {
		return nil, fmt.Errorf("%w: variable %s, which the relay names for its key, is not set", ErrNoKey, variable)
	}
	return relay.SharedAccessKey(value(row.KeyName), key), nil
}

// route finds the relay row of exactly this provider and setting, or, where the
// message names no setting, the provider's default. A named setting never falls
// back to the default: that would be another hospital. Errors:
// [store.ErrNoRelay], [relay.ErrHostNotAllowed], [ErrNoKey], or the database's.
func (c *Consumer) route(ctx context.Context, provider string, setting *string) (route, error) {
	row, err := c.routes.get(ctx, c, routeKey{provider, value(setting)})
	if err != nil {
		return route{}, err
	}
	r := route{hybridConnection: relay.HybridConnection{Namespace: row.Namespace, Path: row.HybridConnection}}
	if err := c.Relay.Allowed(row.Namespace); err != nil {
		return r, err
	}
	r.tokens, err = Tokens(row, c.Secret, c.Entra)
	return r, err
}

// mostRoutes bounds the cache; past it, it starts anew.
const mostRoutes = 4096

// routeKey names a row; setting "" is the provider's default, since a setting
// has at least one character.
type routeKey struct{ provider, setting string }

type cachedRoute struct {
	row  store.Relay
	read time.Time
}

// routeCache keeps relay rows for RouteAge, so that a burst for one gateway
// reads its row once, within StoreLimit. Its zero value is empty and ready.
type routeCache struct {
	mu   sync.Mutex // guards rows
	rows map[routeKey]cachedRoute
}

func (rc *routeCache) get(ctx context.Context, c *Consumer, key routeKey) (store.Relay, error) {
	now := c.now()
	rc.mu.Lock()
	cached, ok := rc.rows[key]
	rc.mu.Unlock()
	if ok && now.Sub(cached.read) < c.waits().RouteAge {
		return cached.row, nil
	}
	var setting *string
	if key.setting != "" {
		setting = &key.setting
	}
	ctx, cancel := context.WithTimeout(ctx, c.waits().StoreLimit)
	defer cancel()
	row, err := c.Store.Relay(ctx, key.provider, setting)
	if err != nil {
		return store.Relay{}, err
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.rows == nil || len(rc.rows) >= mostRoutes {
		rc.rows = make(map[routeKey]cachedRoute)
	}
	rc.rows[key] = cachedRoute{row: row, read: now}
	return row, nil
}

// tellOnce lets one line a minute through for each subject.
type tellOnce struct {
	mu   sync.Mutex // guards told
	told map[string]time.Time
}

func (t *tellOnce) now(subject string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.told[subject]) < time.Minute {
		return false
	}
	if t.told == nil {
		t.told = make(map[string]time.Time)
	}
	t.told[subject] = now
	return true
}

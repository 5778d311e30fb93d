package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// versionTable is where goose keeps the versions it has applied.
const versionTable = goose.DefaultTablename

// ErrSchema says that the database's tables are older or newer than the
// program's. The text around it says which command mends it.
var ErrSchema = errors.New("database schema does not fit this program")

// Migrate brings the tables up to the program's version. Processes that
// migrate one database at once wait for each other. A database that is newer
// than the program is left alone and answered with [ErrSchema].
func (s *Store) Migrate(ctx context.Context) error {
	have, want, err := s.Version(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if have > want {
		return fmt.Errorf("migrate: %w", s.CheckSchema(ctx))
	}
	provider, err := s.goose(ctx, want)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate from version %d to %d: %w", have, want, err)
	}
	return nil
}

// Version reports the version of the database's tables, 0 for an empty
// database, and the one that this program needs. It writes nothing.
func (s *Store) Version(ctx context.Context) (have, want int64, err error) {
	want, err = s.wanted()
	if err != nil {
		return 0, 0, err
	}
	var exists bool
	if err := s.db.GetContext(ctx, &exists, s.dialect.hasTable, versionTable); err != nil {
		return 0, want, fmt.Errorf("schema version: %w", err)
	}
	if !exists {
		return 0, want, nil
	}
	if err := s.db.GetContext(ctx, &have, latestVersion); err != nil {
		return 0, want, fmt.Errorf("schema version: %w", err)
	}
	return have, want, nil
}

const latestVersion = "SELECT COALESCE(max(version_id), 0) FROM " + versionTable

// CheckSchema returns nil when the tables are of the version that the program
// needs, and otherwise an error that is [ErrSchema] and says what mends it.
func (s *Store) CheckSchema(ctx context.Context) error {
	have, want, err := s.Version(ctx)
	switch {
	case err != nil:
		return err
	case have < want:
		return fmt.Errorf("%w: version %d, needed %d: run `worklist-relay migrate`", ErrSchema, have, want)
	case have > want:
		return fmt.Errorf("%w: version %d is newer than this program's %d: run the newer worklist-relay", ErrSchema, have, want)
	}
	return nil
}

// wanted is the highest version among the embedded migrations.
func (s *Store) wanted() (want int64, err error) {
	files, err := fs.Glob(migrations, "migrations/"+s.dialect.name+"/*.sql")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return 0, err
		}
		want = max(want, version)
	}
	return want, nil
}

func (s *Store) goose(ctx context.Context, want int64) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+s.dialect.name)
	if err != nil {
		return nil, err
	}
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.dialect.name == "sqlite" {
		// Nothing nested: the lock below is one transaction around everything.
		opts = append(opts, goose.WithSessionLocker(sqliteLock{want}), goose.WithIsolateDDL(true))
		return goose.NewProvider(goose.DialectSQLite3, s.db.DB, files, opts...)
	}
	locker, err := s.postgresLock(ctx)
	if err != nil {
		return nil, err
	}
	opts = append(opts, goose.WithSessionLocker(locker))
	return goose.NewProvider(goose.DialectPostgres, s.db.DB, files, opts...)
}

// postgresLock is an advisory lock, which belongs to the whole database, under
// a number of the schema's own: two schemas do not wait for each other.
func (s *Store) postgresLock(ctx context.Context) (lock.SessionLocker, error) {
	var schema sql.NullString
	if err := s.db.GetContext(ctx, &schema, "SELECT current_schema()"); err != nil {
		return nil, err
	}
	if !schema.Valid {
		return nil, errors.New("no schema of the search path exists")
	}
	hash := fnv.New32a()
	hash.Write([]byte("worklist-relay " + schema.String))
	return lock.NewPostgresSessionLocker(lock.WithLockID(int64(hash.Sum32())), lock.WithLockTimeout(1, 300))
}

// sqliteLock is a write transaction around the whole migration. SQLite admits
// one writer among all processes, and a process that dies takes its lock and
// its half of the migration with it.
type sqliteLock struct{ want int64 }

func (sqliteLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	return err
}

// SessionUnlock is not told whether the migration succeeded, so it looks
// whether the last version was reached, and takes everything back if not.
func (l sqliteLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var have int64
	end := "COMMIT"
	if err := conn.QueryRowContext(ctx, latestVersion).Scan(&have); err != nil || have < l.want {
		end = "ROLLBACK"
	}
	_, err := conn.ExecContext(ctx, end)
	return err
}

package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/worklist-relay/worklist-relay/store"
)

// ownSchema makes a schema in the PostgreSQL database at text, and returns the
// URL that leads there and what drops it. "" is left as it is.
func ownSchema(ctx context.Context, text string) (own string, drop func() error, err error) {
	if text == "" {
		return "", func() error { return nil }, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", nil, errors.New("the database URL is no postgres://... that can be read") // it is not quoted: it may hold a password
	}
	db, err := sql.Open("postgres", text)
	if err != nil {
		return "", nil, err
	}
	db.SetMaxOpenConns(1)
	name := "bench_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(ctx, "CREATE SCHEMA "+name); err != nil {
		_ = db.Close() // err says more
		return "", nil, fmt.Errorf("a schema for the bench: %w", err)
	}
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String(), func() error {
		defer db.Close()
		ctx, cancel := context.WithTimeout(context.Background(), usual.drop)
		defer cancel()
		_, err := db.ExecContext(ctx, "DROP SCHEMA "+name+" CASCADE")
		return err
	}, nil
}

// checkDatabase makes a schema in the database at url and drops it again: that it
// cannot be measured is to be known before anything else is.
func checkDatabase(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, usual.database)
	defer cancel()
	_, drop, err := ownSchema(ctx, url)
	if err == nil {
		err = drop()
	}
	return err
}

// openBare opens the database at url, with a table for [benchScene.bareWrites],
// with the durability that the store asks for and as many connections.
func openBare(ctx context.Context, url string) (db *sql.DB, err error) {
	connections := store.MostConnections
	if file, isFile := strings.CutPrefix(url, "sqlite:"); isFile {
		connections = 1
		db, err = sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	} else {
		db, err = sql.Open("postgres", url)
	}
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS bare (
		id TEXT NOT NULL PRIMARY KEY, provider TEXT NOT NULL, accession TEXT NOT NULL, digest TEXT NOT NULL, sequence BIGINT NOT NULL,
		status TEXT NOT NULL, relay TEXT, settlement TEXT, received_at TIMESTAMP NOT NULL, claimed_until TIMESTAMP, sent_at TIMESTAMP, confirmed_at TIMESTAMP)`)
	if err != nil {
		_ = db.Close() // err says more
		return nil, err
	}
	return db, nil
}

package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// planner explains statements on one connection of a database.
type planner struct {
	*sql.Conn
	dialect string
	tables  []string
	indexes map[string]index // by name
}

// index is one that the database knows.
type index struct {
	table   string
	leads   string // its first column or expression
	partial bool   // what it does not hold, nobody reads by it
	unique  bool   // it is a rule besides
}

const postgresIndexes = `SELECT i.relname, t.relname, pg_get_indexdef(x.indexrelid, 1, TRUE), x.indpred IS NOT NULL, x.indisunique
	FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
	WHERE t.relnamespace = current_schema()::regnamespace`

const sqliteIndexes = `SELECT l.name, t.name, COALESCE(i.name, ''), l.partial, l."unique"
	FROM sqlite_master t, pragma_index_list(t.name) l, pragma_index_info(l.name) i WHERE t.type = 'table' AND i.seqno = 0`

// newPlanner knows the tables and indexes that the database has now.
func newPlanner(ctx context.Context, conn *sql.Conn, dialect string) (p planner, err error) {
	p = planner{conn, dialect, nil, map[string]index{}}
	tables, indexes := "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()", postgresIndexes
	if dialect == "sqlite" {
		tables, indexes = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'", sqliteIndexes
	}
	err = p.rows(ctx, tables, nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		p.tables = append(p.tables, name)
		return err
	})
	if err != nil {
		return p, err
	}
	err = p.rows(ctx, indexes, nil, func(scan func(...any) error) error {
		var name string
		var i index
		err := scan(&name, &i.table, &i.leads, &i.partial, &i.unique)
		p.indexes[name] = i
		return err
	})
	return p, err
}

func (p planner) rows(ctx context.Context, query string, args []any, each func(scan func(...any) error) error) error {
	rows, err := p.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// findings are what a plan does that costs more the more rows there are:
//
//	scans TABLE    it reads the whole of it, or makes an index of it first
//	walks TABLE    it goes along an index from its one end, until it has enough
//	reads a provider's actions    those that have ended among them
//	sorts          what it found
//
// A partial index is short whatever its table is.
func (p planner) findings(ctx context.Context, s noted) (findings []string, plan string, err error) {
	if p.dialect == "sqlite" {
		findings, plan, err = p.explainSQLite(ctx, s)
	} else {
		findings, plan, err = p.explainPostgres(ctx, s)
	}
	slices.Sort(findings)
	return slices.Compact(findings), plan, err
}

// through is what it means to go through an index, by a condition on what it
// leads with or without one.
func (p planner) through(name string, conditioned bool) []string {
	i, known := p.indexes[name]
	switch {
	case !known:
		return []string{"goes through " + name + ", which is unknown"}
	case !conditioned && !i.partial:
		return []string{"walks " + i.table}
	case name == "actions_provider":
		return []string{"reads a provider's actions"}
	}
	return nil
}

// postgresPlan is a node of EXPLAIN's JSON.
type postgresPlan struct {
	Type     string         `json:"Node Type"`
	Relation string         `json:"Relation Name"`
	Index    string         `json:"Index Name"`
	Cond     string         `json:"Index Cond"`
	Plans    []postgresPlan `json:"Plans"`
}

func (p planner) explainPostgres(ctx context.Context, s noted) (findings []string, plan string, err error) {
	err = p.QueryRowContext(ctx, "EXPLAIN (FORMAT JSON) "+s.text, s.args...).Scan(&plan)
	if err != nil {
		return nil, "", err
	}
	var roots []struct{ Plan postgresPlan }
	if err := json.Unmarshal([]byte(plan), &roots); err != nil {
		return nil, "", err
	}
	var look func(postgresPlan)
	look = func(node postgresPlan) {
		switch {
		case node.Type == "Seq Scan" && slices.Contains(p.tables, node.Relation):
			findings = append(findings, "scans "+node.Relation)
		case node.Type == "Sort" || node.Type == "Incremental Sort":
			findings = append(findings, "sorts")
		case node.Index != "" && !strings.HasPrefix(node.Index, "pg_"):
			leads := regexp.MustCompile(`\b` + regexp.QuoteMeta(p.indexes[node.Index].leads) + `\b`)
			findings = append(findings, p.through(node.Index, leads.MatchString(node.Cond))...)
		}
		for _, child := range node.Plans {
			look(child)
		}
	}
	look(roots[0].Plan)
	return findings, plan, nil
}

var (
	sqliteStep = regexp.MustCompile(`^(SCAN|SEARCH) (\S+)(?: USING (AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?INDEX(?: (\w+))?)?`)
	sqliteMade = regexp.MustCompile(`^(?:CO-ROUTINE|MATERIALIZE) (\S+)`)
)

func (p planner) explainSQLite(ctx context.Context, s noted) (findings []string, plan string, err error) {
	var made []string // subqueries, which are no tables
	err = p.rows(ctx, "EXPLAIN QUERY PLAN "+s.text, s.args, func(scan func(...any) error) error {
		var id, parent, unused int
		var step string
		if err := scan(&id, &parent, &unused, &step); err != nil {
			return err
		}
		plan += step + "\n"
		if m := sqliteMade.FindStringSubmatch(step); m != nil {
			made = append(made, m[1])
		}
		if strings.HasPrefix(step, "USE TEMP B-TREE") {
			findings = append(findings, "sorts")
		}
		m := sqliteStep.FindStringSubmatch(step)
		switch {
		case m == nil || slices.Contains(made, m[2]) || strings.HasPrefix(m[2], "sqlite_") || step == "SCAN CONSTANT ROW":
		case m[3] != "" || m[1] == "SCAN" && m[4] == "":
			findings = append(findings, "scans "+p.tableOf(m[2], s.text))
		case m[4] != "":
			findings = append(findings, p.through(m[4], m[1] == "SEARCH" && !strings.Contains(step, "ANY("))...)
		}
		return nil
	})
	return findings, plan, err
}

// tableOf is the table that a statement knows under a name of its own.
func (p planner) tableOf(name, text string) string {
	if slices.Contains(p.tables, name) {
		return name
	}
	for _, table := range p.tables {
		if regexp.MustCompile(fmt.Sprintf(`\b%s\s+(AS\s+)?%s\b`, table, regexp.QuoteMeta(name))).MatchString(text) {
			return table
		}
	}
	return name
}

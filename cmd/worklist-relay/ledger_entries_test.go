package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// entry is one action that was enqueued.
type entry struct {
	id, provider, accession string
	status                  string // an update's; "": a create
}

// String names the action for people.
func (e *entry) String() string {
	what := "create"
	if e.status != "" {
		what = "update to " + e.status
	}
	return fmt.Sprintf("%s %s (%s, %s)", what, e.id, e.provider, e.accession)
}

// item is the status of the item at the gateway once the action is applied.
func (e *entry) item() string {
	if e.status == "" {
		return "SCHEDULED"
	}
	return e.status
}

// nowhere is a provider that has no relay.
const nowhere = "nowhere"

// line is one line for enqueue, apart from what the ledger does not look at.
type line map[string]any

func (l line) action() map[string]any { return l["action"].(map[string]any) }

func (l line) entry() *entry {
	item := l.action()["parameters"].(map[string]any)["worklist_item"].(map[string]any)
	status, _ := item["status"].(string)
	return &entry{
		id: l.action()["action_id"].(string), provider: l["provider_id"].(string),
		accession: item["accession_number"].(string), status: status,
	}
}

// prepare makes the actions: samples with their updates, and among them some
// for a provider without a relay, some creates whose accession number another
// one has, and some exact resends. It splits them into portions.
func (l *ledger) prepare(seed uint64) {
	l.t.Helper()
	text := l.run("local", "sample", "--updates", "--count", strconv.Itoa(*ledgerActions),
		"--gateways", strings.Join(traffic, ","), "--seed", strconv.FormatUint(seed, 10))
	var lines []line
	for one := range bytes.Lines(text) {
		var made line
		l.decode(one, &made)
		lines = append(lines, made)
	}
	few := 1 + len(lines)/100
	lines = l.misdirect(lines, few)
	for range few {
		lines = l.insertLater(lines, func(e *entry) bool { return e.status == "" && e.provider != nowhere }, l.rival)
	}
	for range 5 * few {
		lines = l.insertLater(lines, func(*entry) bool { return true }, func(original line) line { return original })
	}
	l.entries = map[string]*entry{}
	for _, one := range lines {
		e := one.entry()
		l.entries[e.id] = e
	}
	for portion := range slices.Chunk(lines, (len(lines)+ledgerPortions-1)/ledgerPortions) {
		l.portions = append(l.portions, encodeLines(portion))
	}
}

// misdirect sends everything about a few items to a provider without a relay.
func (l *ledger) misdirect(lines []line, few int) []line {
	astray := map[string]bool{}
	for range few {
		astray[lines[l.random.IntN(len(lines))].entry().accession] = true
	}
	for _, one := range lines {
		if astray[one.entry().accession] {
			one["provider_id"] = nowhere
		}
	}
	return lines
}

// insertLater puts what is made of some line somewhere behind that line.
func (l *ledger) insertLater(lines []line, fits func(*entry) bool, made func(line) line) []line {
	i := l.random.IntN(len(lines))
	for !fits(lines[i].entry()) {
		i = l.random.IntN(len(lines))
	}
	return slices.Insert(lines, i+1+l.random.IntN(len(lines)-i), made(lines[i]))
}

// rival is another create for the same accession number.
func (l *ledger) rival(original line) line {
	rival, action := maps.Clone(original), maps.Clone(original.action())
	action["action_id"] = fmt.Sprintf("%s%012x", action["action_id"].(string)[:24], l.random.Uint64()>>16)
	rival["action"] = action
	return rival
}

func encodeLines(lines []line) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, one := range lines {
		if err := encoder.Encode(one); err != nil {
			panic(err) // it was decoded from JSON
		}
	}
	return text.Bytes()
}

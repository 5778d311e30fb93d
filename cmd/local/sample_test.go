package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worklist-relay/worklist-relay/consumer"
)

var day = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)

func TestSamplesAreValidDistinctAndSynthetic(t *testing.T) {
	t.Parallel()
	var printed bytes.Buffer
	seen := map[string]bool{}
	accession := regexp.MustCompile(`^SYN[A-Z2-7]{13}$`)
	for seed := range uint64(3) {
		printed.Reset()
		if err := (sampleFlags{count: 200, seed: seed}).print(&printed, []string{"a", "b", "c"}, day); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(printed.String(), "\n"), "\n")
		if len(lines) != 200 {
			t.Fatalf("%d lines", len(lines))
		}
		for i, line := range lines {
			var r struct {
				ProviderID string          `json:"provider_id"`
				SettingID  *string         `json:"setting_id"`
				Action     json.RawMessage `json:"action"`
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if want := []string{"a", "b", "c"}[i%3]; r.ProviderID != want || r.SettingID != nil || !strings.Contains(line, `"setting_id":null`) {
				t.Errorf("line %d is for %q, not %q", i, r.ProviderID, want)
			}
			if _, err := consumer.Encode(r.ProviderID, r.SettingID, r.Action); err != nil {
				t.Errorf("line %d: %v", i, err)
			}
			var a action
			if err := json.Unmarshal(r.Action, &a); err != nil {
				t.Fatal(err)
			}
			item := a.Parameters.WorklistItem
			if id, err := uuid.Parse(a.ActionID); err != nil || id.Version() != 4 || id.Variant() != uuid.RFC4122 {
				t.Errorf("action_id %s is no version 4 UUID", a.ActionID)
			}
			if !accession.MatchString(item.AccessionNumber) {
				t.Errorf("accession number %q", item.AccessionNumber)
			}
			if !strings.HasPrefix(item.Participant.Name, "SYNTHETIC^PATIENT") {
				t.Errorf("name %q", item.Participant.Name)
			}
			if !validTestNumber(item.Participant.NHSNumber) {
				t.Errorf("NHS number %q", item.Participant.NHSNumber)
			}
			for _, id := range []string{a.ActionID, item.AccessionNumber} {
				if seen[id] {
					t.Errorf("%s comes twice", id)
				}
				seen[id] = true
			}
		}
	}
}

// validTestNumber applies the check of an NHS number: the weighted sum of all
// ten digits, the last with weight 1, divides by 11.
func validTestNumber(number string) bool {
	if len(number) != 10 || !strings.HasPrefix(number, "999") {
		return false
	}
	sum := 0
	for i, digit := range number {
		sum += (10 - i) * int(digit-'0')
	}
	return sum%11 == 0
}

func TestSamplerRepeatsItself(t *testing.T) {
	t.Parallel()
	three := func(seed uint64, at time.Time) []action {
		s := newSampler(seed, at)
		first := s.create()
		return []action{first, s.create(), s.update(first, "IN PROGRESS")}
	}
	if diff := cmp.Diff(three(7, day), three(7, day)); diff != "" {
		t.Errorf("one seed, two results:\n%s", diff)
	}
	if cmp.Equal(three(7, day), three(8, day)) {
		t.Error("two seeds, one result")
	}
	today, tomorrow := three(7, day), three(7, day.AddDate(0, 0, 1))
	if got := tomorrow[1].Parameters.WorklistItem.Scheduled.Date; got != "20310507" {
		t.Errorf("scheduled for %s", got)
	}
	for i := range today {
		today[i].Timestamp, tomorrow[i].Timestamp = "", ""
		if s := today[i].Parameters.WorklistItem.Scheduled; s != nil {
			s.Date, tomorrow[i].Parameters.WorklistItem.Scheduled.Date = "", ""
		}
	}
	if diff := cmp.Diff(today, tomorrow); diff != "" {
		t.Errorf("more than dates changed with the day:\n%s", diff)
	}
}

// Every create is followed up, in order and not at once; each is an action of
// its own for the provider of the create.
func TestSamplesWithUpdates(t *testing.T) {
	t.Parallel()
	var printed, again bytes.Buffer
	flags := sampleFlags{count: 300, seed: 3, updates: true}
	if err := errors.Join(flags.print(&printed, []string{"a", "b", "c"}, day), flags.print(&again, []string{"a", "b", "c"}, day)); err != nil {
		t.Fatal(err)
	}
	if printed.String() != again.String() {
		t.Error("one seed, two results")
	}
	type seen struct {
		provider, status string
		line             int
	}
	items, ids := map[string]seen{}, map[string]bool{}
	before := map[string]string{"IN PROGRESS": "", "COMPLETED": "IN PROGRESS"}
	counts, near := map[string]int{}, 0
	for i, line := range strings.Split(strings.TrimSuffix(printed.String(), "\n"), "\n") {
		var r request
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if _, err := consumer.Encode(r.ProviderID, r.SettingID, marshal(r.Action)); err != nil {
			t.Errorf("line %d: %v", i, err)
		}
		item := r.Action.Parameters.WorklistItem
		was, known := items[item.AccessionNumber]
		switch {
		case ids[r.Action.ActionID]:
			t.Errorf("line %d: the action id comes twice", i)
		case item.Status == "" && known:
			t.Errorf("line %d: the accession number comes twice", i)
		case item.Status != "" && (was.provider != r.ProviderID || was.status != before[item.Status] || !known):
			t.Errorf("line %d: %q for %s, after %+v", i, item.Status, r.ProviderID, was)
		}
		if known && i-was.line < 3 {
			near++
		}
		ids[r.Action.ActionID] = true
		items[item.AccessionNumber] = seen{r.ProviderID, item.Status, i}
		counts[item.Status]++
	}
	if want := map[string]int{"": 100, "IN PROGRESS": 100, "COMPLETED": 100}; !maps.Equal(counts, want) {
		t.Errorf("actions by status: %v, not %v", counts, want)
	}
	if near > 50 {
		t.Errorf("%d updates come right behind what they follow", near)
	}
}

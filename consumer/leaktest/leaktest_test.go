package leaktest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

func TestFind(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(leaktest.Create("0f0f0f0f-0000-4000-8000-000000000001", "SYN00000001", "20300506"))
	if err != nil {
		t.Fatal(err)
	}
	everything := []string{
		"participant.nhs_number", "participant.name", "participant.birth_date", "participant.address",
		"procedure.study_description", "procedure.modality", "source_reference.appointment_id",
		"source_reference.participant_id", "source_system", "note",
	}
	for form, text := range map[string]string{
		"as it is":         string(body),
		"in lower case":    strings.ToLower(string(body)),
		"quoted":           fmt.Sprintf("%q", body),
		"quoted for ASCII": fmt.Sprintf("%+q", body),
		"in a URL":         "https://host/?q=" + url.QueryEscape(string(body)),
		"in base64":        base64.StdEncoding.EncodeToString(body),
		"in base64, 1 off": base64.URLEncoding.EncodeToString(append([]byte("x"), body...)),
		"in base64, 2 off": base64.StdEncoding.EncodeToString(append([]byte("xy"), body...)),
		"in hexadecimal":   fmt.Sprintf("%x", body),
		"in HEXADECIMAL":   fmt.Sprintf("%X", body),
		"as bytes":         fmt.Sprint(body),
	} {
		if diff := cmp.Diff(everything, leaktest.Find(text)); diff != "" {
			t.Errorf("%s: %s", form, diff)
		}
	}
}

func TestFindPieces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"the patient kingfisher is unknown":                                    "participant.name",
		`{"message":"\u00c9lodie"}`:                                            "participant.name",
		"born 1964-02-29":                                                      "participant.birth_date",
		"NHS 999 000 0018":                                                     "participant.nhs_number",
		"lives in fieldfare row":                                               "participant.address",
		"x=" + leaktest.RelayKey:                                               "relay key",
		"Endpoint=sb://a;SharedAccessKey=" + leaktest.BrokerKey:                "broker key",
		"Bearer " + leaktest.BearerToken:                                       "bearer token",
		"password " + leaktest.BearerToken + "-7":                              "bearer token",
		"X-IDENTITY-HEADER: " + leaktest.IdentityHeader:                        "identity header",
		"SharedAccessSignature sr=http%3a%2f%2fa&sig=abcd%2Befgh%3D&se=1&skn=": "signature of a token",
		"?sb-hc-token=SharedAccessSignature%20sr%3Da%26sig%3Dabcd%252Befgh":    "signature of a token",
		"action 0f0f0f0f-0000-4000-8000-000000000001 at 1970-01-01T00:00:00Z":  "",
		"status error, phase ack_error; SharedAccessKeyName=NAME":              "",
	} {
		var fields []string
		if want != "" {
			fields = []string{want}
		}
		if diff := cmp.Diff(fields, leaktest.Find(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// caught takes the failures that a check reports.
type caught struct {
	testing.TB
	failures []string
}

func (c *caught) Helper() {}
func (c *caught) Errorf(format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

func TestProperties(t *testing.T) {
	t.Parallel()
	clean := map[string]any{"provider_id": "leeds", leaktest.PropertyName: leaktest.Property, "number": int64(7)}
	leaktest.Properties(t, "clean properties", clean)
	for name, value := range map[string]any{
		"DeadLetterErrorDescription": "no " + leaktest.Name, "bytes": []byte(leaktest.NHSNumber), "again": leaktest.Property,
	} {
		c := &caught{TB: t}
		leaktest.Properties(c, "properties", map[string]any{name: value, leaktest.PropertyName: leaktest.Property})
		if len(c.failures) != 1 {
			t.Errorf("%s: failures %q, want one", name, c.failures)
		}
	}
}

// Whatever table a canary stands in, it is found, and where it was overwritten
// in a SQLite file as well.
func TestDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		leaktest.Database(t, address)
		variable := "KINGFISHER"
		relay := store.Relay{ProviderID: "leeds", Namespace: "127.0.0.1:1", HybridConnection: "hc", KeyName: &variable, KeyVariable: &variable}
		if err := s.AddRelay(context.Background(), relay, store.By{Who: "test", Why: "for " + leaktest.NHSNumber}); err != nil {
			t.Fatal(err)
		}
		c := &caught{TB: t}
		leaktest.Database(c, address)
		all := strings.Join(c.failures, "\n")
		for _, want := range []string{"table relays holds the canary of participant.name", "table audit holds the canary of participant.nhs_number"} {
			if !strings.Contains(all, want) {
				t.Errorf("not reported: %s\n%s", want, all)
			}
		}
		if strings.HasPrefix(address, "sqlite:") && !strings.Contains(all, "-wal holds the canary") {
			t.Errorf("the journal was not looked at:\n%s", all)
		}
	})
}

// A database that cannot be looked at has not been checked.
func TestDatabaseWithoutTables(t *testing.T) {
	t.Parallel()
	storetest.EachEmpty(t, func(t *testing.T, address string) {
		c := &caught{TB: t}
		leaktest.Database(c, address)
		if len(c.failures) == 0 {
			t.Error("an empty database passed")
		}
	})
}

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/worklist-relay/worklist-relay"

// listed is what `go list` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir = "../.."
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// The production image holds no test server, and nothing that makes up a past.
func TestProductionBinaryHoldsNoTestServer(t *testing.T) {
	t.Parallel()
	deps := list(t, "./cmd/worklist-relay")[0].Deps
	if !slices.Contains(deps, module+"/consumer") {
		t.Fatalf("deps do not even hold the consumer: %v", deps)
	}
	for _, dep := range deps {
		for _, forbidden := range []string{"servicebustest", "relaytest", "storetest", "storefill", "leaktest", "net/http/httptest"} {
			if strings.Contains(dep, forbidden) {
				t.Errorf("cmd/worklist-relay depends on %s", dep)
			}
		}
		if dep == "testing" {
			t.Error("cmd/worklist-relay depends on testing")
		}
	}
}

// mayImport says who of ours may import whom.
var mayImport = map[string][]string{
	"relay":                                 {},
	"relay/relaytest":                       {},
	"store":                                 {"store/migrations"},
	"store/migrations":                      {},
	"store/storefill":                       {"store"},
	"store/storetest":                       {"store"},
	"consumer":                              {"relay", "store"},
	"consumer/leaktest":                     {},
	"consumer/servicebustest":               {"consumer/servicebustest/internal/amqp"},
	"consumer/servicebustest/internal/amqp": {},
	"cmd/suite":                             {},
	"cmd/worklist-relay":                    {"consumer", "relay", "store"},
	"deploy":                                {},
	"cmd/local":                             {"consumer", "relay", "store", "store/storefill", "consumer/servicebustest", "relay/relaytest"},
}

// ownedBy says which packages of ours may import a library, by path prefix.
var ownedBy = map[string][]string{
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus": {"consumer", "cmd/worklist-relay", "cmd/local"},
	"github.com/gorilla/websocket":                                 {"relay", "relay/relaytest"},
	"github.com/jmoiron/sqlx":                                      {"store", "store/storetest"},
	"github.com/lib/pq":                                            {"store", "store/storetest"},
	"modernc.org/sqlite":                                           {"store"},
	"github.com/pressly/goose":                                     {"store"},
	"github.com/spf13/cobra":                                       {"cmd/worklist-relay", "cmd/local"},
	"github.com/caarlos0/env":                                      {"cmd/worklist-relay"},
	"go.opentelemetry.io/otel":                                     {"consumer", "cmd/worklist-relay", "cmd/local"},
	"go.opentelemetry.io/otel/sdk":                                 {"cmd/worklist-relay", "cmd/local"},
	"go.opentelemetry.io/otel/exporters":                           {"cmd/worklist-relay"},
	"github.com/prometheus":                                        {"cmd/worklist-relay"},
	"google.golang.org/grpc":                                       {"cmd/worklist-relay"},
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s has no place in the layout", name)
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s must not import %s", name, ours)
			}
			for library, owners := range ownedBy {
				if strings.HasPrefix(imported, library) && !slices.Contains(owners, name) {
					t.Errorf("%s must not import %s", name, imported)
				}
			}
			if (imported == "flag" || imported == "os/signal") && !strings.HasPrefix(name, "cmd/") {
				t.Errorf("%s must not import %s", name, imported)
			}
		}
	}
}

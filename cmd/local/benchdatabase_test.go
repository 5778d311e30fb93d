package main

import (
	"bytes"
	"strings"
	"testing"
)

// A database that cannot be measured is told before anything is measured, and
// without the password that its URL may hold.
func TestBenchDatabaseIsAskedFirst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, why string }{
		{"postgres://u:hunter2@127.0.0.1:1/test?sslmode=disable", "connection refused"},
		{"postgres://u:hunter2@127.0.0.1:port/test", "no postgres://..."},
		{"mysql://u:hunter2@127.0.0.1:1/test", "no postgres://..."},
		{"u:hunter2@127.0.0.1", "no postgres://..."},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"bench", "--database-url", test.url}, &out, &errs)
		text := errs.String()
		if code != exitConfiguration || out.Len() > 0 || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: exit code %d, output %q, standard error:\n%s", test.url, code, out.String(), text)
		}
		if !strings.HasPrefix(text, "local: bench: --database-url: ") || !strings.Contains(text, test.why) || strings.Contains(text, "hunter2") {
			t.Errorf("%s: standard error:\n%s", test.url, text)
		}
	}
}

package main

import (
	"net/netip"
	"strings"
	"testing"
)

// Where DNS gives addresses of both kinds, some connections miss the private
// endpoint, and that has to be said.
func TestDoctorJudgesAddresses(t *testing.T) {
	t.Parallel()
	for addresses, want := range map[string]string{
		"10.1.2.3":            "ok 10.1.2.3 (private)",
		"172.16.0.1 10.1.2.3": "ok 10.1.2.3, 172.16.0.1 (private)",
		"100.64.0.1":          "ok 100.64.0.1 (private)",
		"fd00::1":             "ok fd00::1 (private)",
		"20.1.2.3":            "ok 20.1.2.3 (public)",
		"20.1.2.3 20.1.2.3":   "ok 20.1.2.3 (public)",
		"172.32.0.1":          "ok 172.32.0.1 (public)",
		"10.1.2.3 20.1.2.3":   "warning 10.1.2.3, 20.1.2.3 (private and public)",
	} {
		var list []netip.Addr
		for text := range strings.FieldsSeq(addresses) {
			list = append(list, netip.MustParseAddr(text))
		}
		f := judgeAddresses("contoso.servicebus.windows.net", list)
		if got := string(f.State) + " " + f.Found; got != want || (f.State == warning) != (f.Mend != "") {
			t.Errorf("%s: %q, want %q; mend %q", addresses, got, want, f.Mend)
		}
	}
}

//go:build !linux

package relay_test

import "testing"

// deadAddress needs a kernel that drops what its backlog cannot hold.
func deadAddress(t *testing.T) string {
	t.Skip("made for Linux")
	return ""
}

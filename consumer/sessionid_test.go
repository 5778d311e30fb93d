package consumer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// The README tells producers in other languages which bytes of a session's name
// are percent-encoded.
func TestSessionIDEncodesAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+:=@"
	for b := range 256 {
		char, want := string([]byte{byte(b)}), fmt.Sprintf("%%%02X", b)
		if strings.Contains(plain, char) {
			want = char
		}
		if got := consumer.SessionID(char, nil); got != want {
			t.Errorf("byte %#x is %q, want %q", b, got, want)
		}
		if got := consumer.SessionID("a/b", &char); got != "a%2Fb/"+want {
			t.Errorf("byte %#x of a setting is %q, want %q", b, got, want)
		}
	}
}

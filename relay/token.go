package relay

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"time"
	"unique"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	// tokenHeader carries the token of an upgrade request. A plain Authorization header is not read by the relay on websockets.
	tokenHeader = "ServiceBusAuthorization"
	// entraScope is the resource that an Entra ID token for any relay is asked for.
	entraScope = "https://relay.azure.net/.default"

	sharedAccessLifetime = time.Hour
	tokenMargin          = 5 * time.Minute
	tokenTimeout         = 30 * time.Second
)

// A TokenSource gives tokens that let a sender connect. Implementations must be comparable with ==, since a cached connection is given
// only to a caller whose source equals the one it was dialled with, and safe for concurrent use.
type TokenSource interface {
	// Token returns a token for audience, as [HybridConnection.Audience] spells it. It is called when none is cached, the cached
	// one is about to expire, or the relay refused it. The error must not hold secrets.
	Token(ctx context.Context, audience string) (Token, error)
}

// A Token lets its bearer connect to hybrid connections until it expires. It never prints its value.
type Token struct {
	// Expires is when the relay stops accepting it. A client asks for a new one 5 minutes earlier.
	Expires time.Time
	// A handle is printed as a pointer, because printing a struct that has a Token in an unexported field calls no method of it. It is one
	// for all lines that an Entra ID token of one or two kilobytes serves.
	value unique.Handle[string]
}

// NewToken makes a token of the text that goes into the header, including "Bearer " where it needs that.
func NewToken(value string, expires time.Time) Token {
	return Token{Expires: expires, value: unique.Make(value)}
}

// text is what goes into the header; empty for the zero Token.
func (t Token) text() string {
	if t.value == (unique.Handle[string]{}) {
		return ""
	}
	return t.value.Value()
}

// Format prints a placeholder for every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is a placeholder.
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives a placeholder, which is also its JSON form.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SharedAccessKey signs tokens of one hour with a shared access key that has the Send right. The key's text is used as it stands; it
// is not base64-decoded. Meant for development: production uses [Entra].
// Sources of the same name and key are equal.
func SharedAccessKey(name, key string) TokenSource { return sharedAccessKey{name, unique.Make(key)} }

type sharedAccessKey struct {
	name string
	key  unique.Handle[string] // comparable as a string is, and printed as a pointer
}

// Token signs the percent-encoded audience, a line feed and the expiry in Unix seconds with HMAC-SHA256.
func (k sharedAccessKey) Token(_ context.Context, audience string) (Token, error) {
	expires := time.Now().Add(sharedAccessLifetime).Truncate(time.Second)
	resource := url.QueryEscape(audience)
	until := strconv.FormatInt(expires.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(k.key.Value()))
	_, _ = io.WriteString(mac, resource+"\n"+until)
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return NewToken("SharedAccessSignature sr="+resource+"&sig="+signature+"&se="+until+"&skn="+url.QueryEscape(k.name), expires), nil
}

func (k sharedAccessKey) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "shared access key "+k.name)
}

func (k sharedAccessKey) LogValue() slog.Value {
	return slog.StringValue("shared access key " + k.name)
}

func (k sharedAccessKey) MarshalText() ([]byte, error) { return []byte(k.LogValue().String()), nil }

// Entra gives tokens of an Entra ID identity that has the role Azure Relay Sender. It is comparable if Credential is, as those of
// azidentity are.
type Entra struct {
	Credential azcore.TokenCredential
}

// Token asks the credential, which keeps its own cache. One token serves every hybrid connection, so the audience is not used.
func (e Entra) Token(ctx context.Context, _ string) (Token, error) {
	token, err := e.Credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{entraScope}})
	if err != nil {
		return Token{}, err
	}
	return NewToken("Bearer "+token.Token, token.ExpiresOn), nil
}

// Format prints "entra" for every verb: a credential may hold a secret.
func (e Entra) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra") }

// LogValue is "entra".
func (e Entra) LogValue() slog.Value { return slog.StringValue("entra") }

// MarshalText gives "entra".
func (e Entra) MarshalText() ([]byte, error) { return []byte("entra"), nil }

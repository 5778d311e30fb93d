package servicebustest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

const (
	testKeyName = "tests"
	testKey     = "c3ludGhldGljLWtleS1mb3ItdGVzdHM="
)

func withKey(config *servicebustest.Config) { config.KeyName, config.Key = testKeyName, testKey }

// sign makes a shared access signature by the published recipe.
func sign(resource, keyName, key string, expiry time.Time) string {
	sr, se := url.QueryEscape(resource), fmt.Sprint(expiry.Unix())
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", sr, sig, se, keyName)
}

// sendWith sends a message with a ready-made token and returns the error.
func (r *rig) sendWith(token string) error {
	r.t.Helper()
	client := r.dial(fmt.Sprintf("Endpoint=sb://%s;SharedAccessSignature=%s;UseDevelopmentEmulator=true", r.server.Addr(), token))
	sender, err := client.NewSender(queueName, nil)
	must(r.t, err)
	return sender.SendMessage(r.ctx, &azservicebus.Message{}, nil)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Hour)
	refused := func(token func(r *rig) string, why string) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			err := r.sendWith(token(r))
			code(t, err, azservicebus.CodeUnauthorizedAccess)
			if !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), testKey) {
				t.Errorf("error %v, want %s", err, why)
			}
		}
	}
	accepted := func(token func(r *rig) string) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) { must(t, r.sendWith(token(r))) }
	}
	prove(t, []behaviour{
		{name: "the connection string opens everything", config: withKey, prove: func(t *testing.T, r *rig) {
			r.deadLetterOne("a")
			_, err := r.deadReceiver().PeekMessages(r.ctx, 1, nil)
			must(t, err)
		}},
		{name: "without a key any token will do", prove: accepted(func(*rig) string {
			return sign("anything", "anybody", "another", soon)
		})},
		{name: "a token for the namespace", config: withKey, prove: accepted(func(r *rig) string {
			return sign("http://"+r.server.Addr()+"/", testKeyName, testKey, soon)
		})},
		{name: "a token for the host alone", config: withKey, prove: accepted(func(r *rig) string {
			return sign(r.server.Addr(), testKeyName, testKey, soon)
		})},
		{name: "a token for the queue", config: withKey, prove: accepted(func(r *rig) string {
			return sign("SB://"+r.server.Addr()+"/WORKLIST", testKeyName, testKey, soon)
		})},
		{name: "the wrong key", config: withKey, prove: refused(func(r *rig) string {
			return sign("sb://"+r.server.Addr(), testKeyName, testKey+"x", soon)
		}, "InvalidSignature")},
		{name: "the wrong key name", config: withKey, prove: refused(func(r *rig) string {
			return sign("sb://"+r.server.Addr(), "somebody", testKey, soon)
		}, "InvalidSignature")},
		{name: "an expired token", config: withKey, prove: refused(func(r *rig) string {
			return sign("sb://"+r.server.Addr(), testKeyName, testKey, time.Now().Add(-time.Minute))
		}, "ExpiredToken")},
		{name: "a token for another queue", config: withKey, prove: refused(func(r *rig) string {
			return sign("sb://"+r.server.Addr()+"/work", testKeyName, testKey, soon)
		}, "InvalidAudience")},
		{name: "no token at all", config: withKey, prove: func(t *testing.T, r *rig) {
			_, err := r.rawSession().NewReceiver(r.ctx, queueName, nil)
			condition(t, err, amqp.ErrCondUnauthorizedAccess)
		}},
		{name: "a claim ends with its token", config: withKey, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			until := time.Now().Add(time.Hour)
			status, _ := r.putToken(session, "servicebus.windows.net:sastoken", sign("sb://"+r.server.Addr(), testKeyName, testKey, until))
			if status != 202 {
				t.Fatalf("status %d", status)
			}
			_, err := session.NewSender(r.ctx, queueName, nil)
			must(t, err)
			r.server.Advance(time.Hour)
			_, err = session.NewReceiver(r.ctx, queueName, nil)
			condition(t, err, amqp.ErrCondUnauthorizedAccess)
		}},
		{name: "tokens that expire take their links with them", config: withKey, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			token := sign("sb://"+r.server.Addr(), testKeyName, testKey, soon)
			r.putToken(session, "servicebus.windows.net:sastoken", token)
			receiver, err := session.NewReceiver(r.ctx, queueName, nil)
			must(t, err)
			r.server.ExpireTokens()
			_, err = receiver.Receive(r.ctx, nil)
			condition(t, err, amqp.ErrCondUnauthorizedAccess)
			_, err = session.NewReceiver(r.ctx, queueName, nil)
			condition(t, err, amqp.ErrCondUnauthorizedAccess)
			r.putToken(session, "servicebus.windows.net:sastoken", token)
			_, err = session.NewReceiver(r.ctx, queueName, nil)
			must(t, err)
		}},
		{name: "PLAIN with the key needs no token", config: withKey, prove: func(t *testing.T, r *rig) {
			session, err := r.raw(&amqp.ConnOptions{SASLType: amqp.SASLTypePlain(testKeyName, testKey)}).NewSession(r.ctx, nil)
			must(t, err)
			_, err = session.NewSender(r.ctx, queueName, nil)
			must(t, err)
		}},
		{name: "PLAIN with another key is refused", config: withKey, prove: func(t *testing.T, r *rig) {
			if conn, err := amqp.Dial(r.ctx, "amqp://"+r.server.Addr(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(testKeyName, "wrong")}); err == nil {
				conn.Close()
				t.Error("accepted")
			}
		}},
		{name: "EXTERNAL and no SASL at all are anonymous", prove: func(t *testing.T, r *rig) {
			for _, sasl := range []amqp.SASLType{amqp.SASLTypeExternal(""), nil} {
				_, err := r.raw(&amqp.ConnOptions{SASLType: sasl}).NewSession(r.ctx, nil)
				must(t, err)
			}
		}},
		{name: "a jwt is taken where it is verified", prove: jwt(202), config: func(config *servicebustest.Config) {
			withKey(config)
			config.VerifyJWT = verifyJWT
		}},
		{name: "a jwt is refused where nothing verifies it", prove: jwt(401), config: withKey},
		{name: "a jwt is judged where there is no key", prove: jwt(202), config: withJWT},
		{name: "no signature is good where there is no key", config: withJWT, prove: refused(func(r *rig) string {
			return sign("sb://"+r.server.Addr(), "", "", soon)
		}, "InvalidSignature")},
		{name: "a jwt that is refused, or expired", config: withJWT, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			for token, why := range map[string]string{"SYNTHETIC.ANOTHER.TOKEN": "InvalidToken: of somebody else", "SYNTHETIC.OLD.TOKEN": "ExpiredToken"} {
				if status, text := r.putToken(session, "jwt", token); status != 401 || !strings.Contains(text, why) {
					t.Errorf("%s: status %d, %s", token, status, text)
				}
			}
			_, err := session.NewSender(r.ctx, queueName, nil)
			condition(t, err, amqp.ErrCondUnauthorizedAccess)
		}},
		{name: "PLAIN is refused where there is no key", config: withJWT, prove: func(t *testing.T, r *rig) {
			if conn, err := amqp.Dial(r.ctx, "amqp://"+r.server.Addr(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("", "")}); err == nil {
				conn.Close()
				t.Error("accepted")
			}
		}},
	})
}

// verifyJWT takes one token, for the one queue.
func verifyJWT(token, audience string) (time.Time, error) {
	u, err := url.Parse(audience)
	switch {
	case err != nil || strings.TrimSuffix(u.Path, "/$management") != "/"+queueName:
		return time.Time{}, fmt.Errorf("the audience is %q", audience)
	case token == "SYNTHETIC.OLD.TOKEN":
		return time.Now().Add(-time.Second), nil
	case token != "SYNTHETIC.JWT.TOKEN":
		return time.Time{}, errors.New("of somebody else")
	}
	return time.Now().Add(time.Hour), nil
}

func withJWT(config *servicebustest.Config) { config.VerifyJWT = verifyJWT }

func jwt(want int32) func(*testing.T, *rig) {
	return func(t *testing.T, r *rig) {
		session := r.rawSession()
		if status, text := r.putToken(session, "jwt", "SYNTHETIC.JWT.TOKEN"); status != want || strings.Contains(text, "SYNTHETIC") {
			t.Errorf("status %d, %s; want %d", status, text, want)
		}
		if _, err := session.NewSender(r.ctx, queueName, nil); (err == nil) != (want == 202) {
			t.Errorf("attaching: %v", err)
		}
	}
}

// putToken presents a token as an SDK does and returns the status of the answer.
func (r *rig) putToken(session *amqp.Session, kind, token string) (int32, string) {
	r.t.Helper()
	answer := r.request(session, "$cbs", &amqp.Message{
		Value:                 token,
		ApplicationProperties: map[string]any{"operation": "put-token", "type": kind, "name": "amqp://" + r.server.Addr() + "/" + queueName},
	})
	status, _ := answer.ApplicationProperties["status-code"].(int32)
	text, _ := answer.ApplicationProperties["status-description"].(string)
	return status, text
}

// request sends a request to a node and returns the answer.
func (r *rig) request(session *amqp.Session, address string, m *amqp.Message) *amqp.Message {
	r.t.Helper()
	sender, err := session.NewSender(r.ctx, address, nil)
	must(r.t, err)
	receiver, err := session.NewReceiver(r.ctx, address, &amqp.ReceiverOptions{TargetAddress: "answers-" + address})
	must(r.t, err)
	m.Properties = &amqp.MessageProperties{MessageID: "1", ReplyTo: ptr("answers-" + address)}
	must(r.t, sender.Send(r.ctx, m, nil))
	answer, err := receiver.Receive(r.ctx, nil)
	must(r.t, err)
	if answer.Properties.CorrelationID != "1" {
		r.t.Errorf("correlation id %v", answer.Properties.CorrelationID)
	}
	must(r.t, sender.Close(r.ctx))
	must(r.t, receiver.Close(r.ctx))
	return answer
}

func TestRequests(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{{name: "requests that make no sense are answered so", prove: func(t *testing.T, r *rig) {
		tests := []struct {
			operation string
			body      any
			want      int32
		}{
			{"com.microsoft:no-such-thing", map[string]any{}, 501},
			{"com.microsoft:peek-message", map[string]any{"from-sequence-number": int64(0), "message-count": int32(0)}, 400},
			{"com.microsoft:peek-message", nil, 400},
			{"com.microsoft:renew-lock", map[string]any{"lock-tokens": "none"}, 400},
			{"com.microsoft:renew-lock", map[string]any{"lock-tokens": []amqp.UUID{{1}}}, 410},
			{"com.microsoft:update-disposition", map[string]any{"lock-tokens": []amqp.UUID{{1}}, "disposition-status": "eaten"}, 400},
			{"com.microsoft:update-disposition", map[string]any{"lock-tokens": []amqp.UUID{{1}}, "disposition-status": "completed"}, 410},
			{"com.microsoft:receive-by-sequence-number", map[string]any{"sequence-numbers": []int64{5}, "receiver-settle-mode": uint32(1)}, 404},
			{"com.microsoft:receive-by-sequence-number", map[string]any{"sequence-numbers": []string{"5"}, "receiver-settle-mode": uint32(1)}, 400},
			{"com.microsoft:schedule-message", map[string]any{"messages": []any{map[string]any{"message": "text"}}}, 400},
			{"com.microsoft:schedule-message", map[string]any{"messages": []any{map[string]any{"message": make([]byte, 300<<10)}}}, 0},
			{"com.microsoft:cancel-scheduled-message", map[string]any{}, 400},
		}
		session := r.rawSession()
		for _, test := range tests {
			if test.want == 0 {
				continue // too large to be sent: see TestSending
			}
			answer := r.request(session, queueName+"/$management", &amqp.Message{
				Value: test.body, ApplicationProperties: map[string]any{"operation": test.operation},
			})
			if got := answer.ApplicationProperties["statusCode"]; got != test.want {
				t.Errorf("%s %v: status %v, want %d", test.operation, test.body, got, test.want)
			}
		}
	}}})
}

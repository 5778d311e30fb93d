package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

const echoType = "echo"

// Echo sends an echo through the code that carries actions, and returns how long each step took, up to the one that failed if one did.
// Any answer is a sign of life, and so is a clean close after the frame, since old gateways know no echo. It needs no participant's
// details, and waits for its turn like any other.
func (c *Client) Echo(ctx context.Context, hc HybridConnection, tokens TokenSource) (Timings, error) {
	conn, err := c.Connect(ctx, hc, tokens)
	var e *Error
	if errors.As(err, &e) {
		return e.Timings, err
	}
	defer conn.Release()
	id := uuid.NewString()
	frame := fmt.Appendf(nil, `{"schema_version":1,"action_id":%q,"action_type":%q}`, id, echoType)
	_, err = conn.Exchange(ctx, NewAction(frame, id, echoType, ""))
	if errors.As(err, &e) && e.Answered {
		err = nil
	}
	return conn.Timings(), err
}

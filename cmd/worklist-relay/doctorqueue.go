package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/Azure/go-amqp"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// ownSession begins the name of an empty session that is opened for a moment on a
// queue with sessions. No producer's has a space in it.
const ownSession = "worklist-relay doctor "

// queueAnswer is what came of asking Service Bus.
type queueAnswer struct {
	findings []finding
	clocks   []clock
}

// askQueue tries each right by itself, and compares the queue's properties with
// what run needs. No message is received, locked or sent.
func (d *doctor) askQueue(ctx context.Context) queueAnswer {
	queue, outcomes := d.config.ServiceBusQueue, d.config.OutcomeQueue
	for _, why := range []string{d.cut["Service Bus"], d.cut["token for Service Bus"]} {
		if why != "" {
			return queueAnswer{findings: []finding{{Check: "queue", Target: queue, State: skipped, Found: why}}}
		}
	}
	probes := []probe{
		{check: "listen", target: queue, look: d.asking("listen", queue, d.listen)},
		{check: "sessions", target: queue, look: d.asking("sessions", queue, d.openSession)},
		{check: "send", target: queue, look: d.asking("send", queue, attach)},
	}
	if outcomes != "" {
		probes = append(probes, probe{check: "send", target: outcomes, look: d.asking("send", outcomes, attach)})
	}
	managed := make(chan queueAnswer, 1)
	go func() {
		answer, ok := within(ctx, d.timeout, d.manage)
		if !ok {
			answer.findings = []finding{{Check: "manage", Target: queue, State: note, Found: fmt.Sprintf("no answer within %s", d.timeout)}}
		}
		managed <- answer
	}()
	found := d.together(ctx, 0, probes...)
	if listen, sessions := &found[0][0], &found[1][0]; listen.State == failed && sessions.State == failed && sessions.Found == listen.Found {
		*sessions = finding{Check: "sessions", Target: queue, State: skipped, Found: "needs what listen needs"}
	}
	var findings []finding
	for _, list := range found {
		findings = append(findings, list...)
	}
	answer := <-managed
	answer.findings = append(findings, answer.findings...)
	return answer
}

// asking makes a check of one operation on a client of its own: a refusal ends
// the whole connection of a client.
func (d *doctor) asking(check, queue string, operation func(context.Context, *azservicebus.Client, string) (string, error)) func(context.Context) []finding {
	return func(ctx context.Context) []finding {
		client, err := d.config.connect()
		if err != nil {
			return []finding{d.bad(ctx, check, queue, oneLine(err), "Mend the configuration.")}
		}
		defer client.Close(ctx)
		said, err := operation(ctx, client, queue)
		if err == nil {
			return []finding{{Check: check, Target: queue, State: fine, Found: said}}
		}
		what, mend := d.whyRefused(ctx, check, err)
		return []finding{d.bad(ctx, check, queue, what, mend)}
	}
}

// listen peeks into the dead-letter queue, which knows no sessions. Peeking
// takes and locks nothing, and needs the right to listen.
func (d *doctor) listen(ctx context.Context, client *azservicebus.Client, queue string) (said string, err error) {
	receiver, err := client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return "", err
	}
	return "allowed", peekOne(ctx, receiver)
}

func peekOne(ctx context.Context, receiver *azservicebus.Receiver) (err error) {
	defer func() {
		if recover() != nil {
			err = nil // the SDK panics on some messages of others; one came, which is all that was asked
		}
	}()
	from := int64(0)
	_, err = receiver.PeekMessages(ctx, 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
	return err
}

// openSession learns whether queue and configuration agree about sessions, which
// the broker tells only to who opens one, or does without.
func (d *doctor) openSession(ctx context.Context, client *azservicebus.Client, queue string) (string, error) {
	if d.config.ServiceBusSessions {
		_, err := client.AcceptSessionForQueue(ctx, queue, ownSession+rand.Text(), nil)
		return "the queue requires them, as SERVICEBUS_SESSIONS=true says", err
	}
	receiver, err := client.NewReceiverForQueue(queue, nil)
	if err != nil {
		return "", err
	}
	return "the queue can be read without, as SERVICEBUS_SESSIONS=false says", peekOne(ctx, receiver)
}

// attach opens a link to send on: the batch, which is never sent, has to know how
// much the link takes.
func attach(ctx context.Context, client *azservicebus.Client, queue string) (string, error) {
	sender, err := client.NewSender(queue, nil)
	if err != nil {
		return "", err
	}
	_, err = sender.NewMessageBatch(ctx, nil)
	return "allowed; nothing was sent", err
}

// whyRefused is the broker's refusal in a line, and what mends it.
func (d *doctor) whyRefused(ctx context.Context, check string, err error) (what, mend string) {
	role := "Azure Service Bus Data Receiver"
	if check == "send" {
		role = "Azure Service Bus Data Sender"
	}
	refused, _ := errors.AsType[*azservicebus.Error](err)
	condition, _ := errors.AsType[*amqp.Error](err)
	switch {
	case condition != nil && condition.Condition == amqp.ErrCondNotAllowed && check == "sessions":
		f := consumer.QueueNeeds{Sessions: d.config.ServiceBusSessions}.SessionFault()
		return fmt.Sprintf("%s is %s, needed: %s", f.Property, f.Found, f.Needed), f.Harm + " " + f.Mend
	case refused != nil && refused.Code == azservicebus.CodeNotFound, condition != nil && condition.Condition == amqp.ErrCondNotFound:
		return "no such queue", "Compare SERVICEBUS_QUEUE, or OUTCOME_QUEUE, and the namespace with the portal."
	case condition != nil && condition.Condition == "com.microsoft:entity-disabled":
		return "the queue is disabled", "Enable it in the portal."
	case refused != nil && refused.Code == azservicebus.CodeUnauthorizedAccess, condition != nil && condition.Condition == amqp.ErrCondUnauthorizedAccess:
		if d.config.ServiceBusConnectionString != "" {
			return "not allowed", "Compare name, key and rights (Listen, Send) of SERVICEBUS_CONNECTION_STRING with the portal; local authentication may be switched off for the namespace. Check this machine's clock, too."
		}
		return "not allowed", fmt.Sprintf("Give the identity the role %s on the queue. A new assignment takes some minutes to work.", role)
	case condition != nil && condition.Condition == "com.microsoft:server-busy":
		return "the broker is busy and asked to wait", "Try again in a minute. If it stays, the namespace is throttled: look at its metrics."
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Sprintf("no answer within %s", d.timeout), "Try again; if it stays, look at the namespace in the portal and at Azure's status page."
	}
	return oneLine(err), "Look at the namespace in the portal."
}

// manage reads the queue's properties at the management address. That needs more
// rights than run has in production, so that a refusal is no fault.
func (d *doctor) manage(ctx context.Context) queueAnswer {
	queue := d.config.ServiceBusQueue
	client, err := d.config.administration()
	if err != nil {
		return queueAnswer{findings: []finding{d.bad(ctx, "manage", queue, oneLine(err), "Mend the configuration.")}}
	}
	var raw *http.Response
	begun := time.Now()
	answer, err := client.GetQueue(policy.WithCaptureResponse(ctx, &raw), queue, nil)
	clocks := dateOf(raw, begun, time.Now())
	if err != nil {
		why := oneLine(briefly(err))
		if ctx.Err() == context.DeadlineExceeded {
			why = fmt.Sprintf("the management address did not answer within %s", d.timeout)
		}
		f := finding{Check: "manage", Target: queue, State: note, Found: why + "; its properties were not compared, and counts of the queue are missing in reports",
			Mend: "run does without. To compare them, use an identity with the role Azure Service Bus Data Owner, or `az servicebus queue show`."}
		if refused, ok := errors.AsType[*azcore.ResponseError](err); !ok || refused.StatusCode >= http.StatusInternalServerError {
			f.Mend = "run does without. The management address is the namespace's own at TCP port 443."
		}
		if ctx.Err() == context.Canceled {
			f = d.bad(ctx, "manage", queue, "", "")
		}
		return queueAnswer{[]finding{f}, clocks}
	}
	if answer == nil {
		return queueAnswer{[]finding{d.bad(ctx, "queue", queue, "no such queue at the management address", "Compare SERVICEBUS_QUEUE and the namespace with the portal.")}, clocks}
	}
	findings := []finding{{Check: "manage", Target: queue, State: fine, Found: "allowed"}}
	return queueAnswer{append(findings, d.compare(ctx, answer.QueueProperties)...), clocks}
}

// compare holds a queue against the needs of run.
func (d *doctor) compare(ctx context.Context, given admin.QueueProperties) []finding {
	queue := d.config.ServiceBusQueue
	properties, err := propertiesOf(given)
	if err != nil {
		return []finding{{Check: "queue", Target: queue, State: warning, Found: err.Error(), Mend: "Compare the queue's properties by hand, with `az servicebus queue show`."}}
	}
	needs := consumer.QueueNeeds{Sessions: d.config.ServiceBusSessions, Retry: d.config.retryPolicy()}
	var findings []finding
	for _, fault := range needs.Faults(properties) {
		f := d.bad(ctx, "queue", queue, fmt.Sprintf("%s is %s, needed: %s", fault.Property, fault.Found, fault.Needed), fault.Harm+" "+fault.Mend)
		if fault.Warning && f.State == failed {
			f.State = warning
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 {
		findings = []finding{{Check: "queue", Target: queue, State: fine, Found: fmt.Sprintf("suits: requiresSession %t, lockDuration %s, maxDeliveryCount %d",
			properties.RequiresSession, properties.LockDuration, properties.MaxDeliveryCount)}}
	}
	return findings
}

func propertiesOf(given admin.QueueProperties) (p consumer.QueueProperties, err error) {
	p = consumer.QueueProperties{
		RequiresSession: of(given.RequiresSession), DuplicateDetection: of(given.RequiresDuplicateDetection),
		DeadLetterOnExpiry: of(given.DeadLetteringOnMessageExpiration), MaxDeliveryCount: int(of(given.MaxDeliveryCount)),
		Partitioned: of(given.EnablePartitioning), ForwardTo: of(given.ForwardTo), ForwardDeadLettersTo: of(given.ForwardDeadLetteredMessagesTo),
		Status: string(of(given.Status)),
	}
	for _, duration := range []struct {
		name string
		from *string
		to   *time.Duration
	}{
		{"lockDuration", given.LockDuration, &p.LockDuration},
		{"defaultMessageTimeToLive", given.DefaultMessageTimeToLive, &p.DefaultTTL},
		{"autoDeleteOnIdle", given.AutoDeleteOnIdle, &p.AutoDeleteOnIdle},
	} {
		if duration.from == nil {
			continue
		}
		if *duration.to, err = consumer.QueueDuration(*duration.from); err != nil {
			return p, fmt.Errorf("%s: %w", duration.name, err)
		}
	}
	return p, nil
}

// of is what a pointer leads to; zero for nil.
func of[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

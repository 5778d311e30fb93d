package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The flags change what the queue is, also one of a Config.json.
func TestServeQueueFlags(t *testing.T) {
	config := filepath.Join(t.TempDir(), "queues.json")
	if err := os.WriteFile(config, []byte(queueConfig(queueName, `"LockDuration":"PT2M","MaxDeliveryCount":3`)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := fromEnv(t, served(t, "--consumer=false", "--config", config, "--lock", "4m", "--max-delivery", "1", "--gateways", "leeds=one-shot"))
	p.enqueue(t, "leeds")
	receiver, err := p.client.NewReceiverForQueue(queueName, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	asked := time.Now().Truncate(time.Millisecond) // as exact as AMQP is
	received, err := receiver.ReceiveMessages(ctx, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if until := *received[0].LockedUntil; until.Before(asked.Add(4*time.Minute)) || until.After(time.Now().Add(4*time.Minute)) {
		t.Errorf("locked until %v, asked for at %v", until, asked)
	}
	if err := receiver.AbandonMessage(t.Context(), received[0], nil); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ask(p.env["LOCAL_HTTP_ADDR"], "GET", "/broker", ""); err != nil || !strings.Contains(text, `"dead_lettered":1`) {
		t.Errorf("not dead-lettered after one delivery: %s %v", text, err)
	}
}

// A session queue, by flag or by Config.json, is announced and takes no plain receiver.
func TestServeSessions(t *testing.T) {
	config := filepath.Join(t.TempDir(), "queues.json")
	if err := os.WriteFile(config, []byte(queueConfig(queueName, `"RequiresSession":true`)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"flag": {"--sessions"}, "config": {"--config", config}} {
		t.Run(name, func(t *testing.T) {
			p := fromEnv(t, served(t, append(flags, "--consumer=false", "--gateways", "leeds=one-shot")...))
			if p.env["SERVICEBUS_SESSIONS"] != "true" {
				t.Errorf("SERVICEBUS_SESSIONS is %q", p.env["SERVICEBUS_SESSIONS"])
			}
			receiver, err := p.client.NewReceiverForQueue(queueName, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testLimit)
			defer cancel()
			if _, err := receiver.ReceiveMessages(ctx, 1, nil); err == nil || !strings.Contains(err.Error(), "requires sessions") {
				t.Errorf("a receiver without a session: %v", err)
			}
		})
	}
}

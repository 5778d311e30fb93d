package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// Every way not to have counts is one short line, and none holds a token.
func TestCountsNotKnown(t *testing.T) {
	t.Parallel()
	broker, err := servicebustest.NewServer(servicebustest.Config{
		HTTPAddr: "127.0.0.1:0", KeyName: "local", Key: "SYNTHETIC", Queues: []servicebustest.Queue{{Name: "worklist-commands"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := config{ServiceBusConnectionString: broker.ConnectionString(), ServiceBusAdminURL: "http://" + broker.HTTPAddr(), ServiceBusQueue: "worklist-commands"}
	ask := func(want string) {
		t.Helper()
		counts, err := c.counts()
		if err != nil {
			t.Fatal(err)
		}
		_, err = counts(context.Background())
		switch {
		case err == nil && want == "":
		case err == nil || want == "" || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n&"):
			t.Errorf("error %v, want one of %q", err, want)
		}
	}
	ask("")
	c.ServiceBusQueue = "elsewhere"
	ask("no such queue")
	c.ServiceBusQueue = "worklist-commands"
	broker.RefuseTokens(time.Minute)
	ask("answered 401: counting needs the right to manage the queue")
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	ask("connection refused")
}

func TestCheckAdminURL(t *testing.T) {
	t.Parallel()
	for value, fault := range map[string]string{
		"": "", "http://127.0.0.1:5300": "", "http://localhost:5300": "", "http://[::1]:5300": "",
		"http://127.0.0.1": "HOST:PORT", "https://127.0.0.1:5300": "", "ftp://127.0.0.1:5300": "HOST:PORT", "https://example.org:443": "loopback", "http://127.0.0.1:5300/": "HOST:PORT", "127.0.0.1:5300": "HOST:PORT",
		"http://key@127.0.0.1:5300": "HOST:PORT", "http://example.org:80": "loopback", "http://192.0.2.1:5300": "loopback",
	} {
		err := config{ServiceBusAdminURL: value}.checkAdminURL()
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v", value, err)
		}
	}
	entra := config{ServiceBusAdminURL: "http://127.0.0.1:5300", ServiceBusNamespace: "contoso.servicebus.windows.net"}
	if err := entra.checkAdminURL(); err == nil {
		t.Error("a token of Entra ID would be sent in the plain")
	}
	if entra.ServiceBusAdminURL = "https://127.0.0.1:5300"; entra.checkAdminURL() != nil {
		t.Error("a token of Entra ID cannot be sent over TLS")
	}
}

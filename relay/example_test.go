package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// One action to one gateway. Here both relay and gateway run in the process; for a real namespace, PlainHosts stays empty and the tokens
// come from [relay.Entra].
func Example() {
	server, err := relaytest.NewServer(relaytest.Config{
		HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	gateway, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: "hc-leeds", Relay: server})
	if err != nil {
		log.Fatal(err)
	}
	defer gateway.Close()

	client := &relay.Client{PlainHosts: []string{"127.0.0.1"}}
	defer client.Close()
	hc := relay.HybridConnection{Namespace: server.Addr(), Path: "hc-leeds"}
	tokens := relay.SharedAccessKey("sender", "a key for this example only")

	id := "4c2a3a52-3f0e-4d57-9d0b-0f6f5d0c7a11"
	frame := []byte(`{"schema_version":1,"action_id":"` + id + `","action_type":"worklist.create_item",
		"parameters":{"worklist_item":{"accession_number":"ACC2026011500A1",
		"participant":{"nhs_number":"9990000001","name":"TESTPERSON^SYNTHETIC","birth_date":"19700131","sex":"F"},
		"scheduled":{"date":"20260115","time":"093000"},"procedure":{"modality":"MG","study_description":"Imaginary"}}}}`)
	action := relay.NewAction(frame, id, "worklist.create_item", "ACC2026011500A1")

	ctx := context.Background()
	conn, err := client.Connect(ctx, hc, tokens)
	if err != nil {
		log.Fatal(err) // certainly not sent
	}
	defer conn.Release()
	ack, err := conn.Exchange(ctx, action)
	if e := (*relay.Error)(nil); errors.As(err, &e) {
		log.Fatal(e.Phase, e.Sent)
	}
	fmt.Println(action, "is", ack.Status)
	// Output: worklist.create_item 4c2a3a52-3f0e-4d57-9d0b-0f6f5d0c7a11 is created
}

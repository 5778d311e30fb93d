package relaytest_test

import (
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// ExampleGateway sends one action by hand.
func ExampleGateway() {
	server, err := relaytest.NewServer(relaytest.Config{
		HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	gateway, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: "hc-leeds", Relay: server})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer gateway.Close()

	ws, _, err := websocket.DefaultDialer.Dial("ws://"+server.Addr()+"/$hc/hc-leeds?sb-hc-action=connect", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	ws.WriteMessage(websocket.TextMessage, []byte(`{"action_type":"echo"}`))
	_, reply, _ := ws.ReadMessage()
	fmt.Printf("%s\n", reply)
	_, _, err = ws.ReadMessage()
	fmt.Println(err)
	// Output:
	// {"status":"echo","payload":{"action_type":"echo"}}
	// websocket: close 1000 (normal)
}

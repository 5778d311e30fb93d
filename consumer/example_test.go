package consumer_test

import (
	"errors"
	"fmt"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// A producer makes the message that it sends to the queue; what the consumer
// would dead-letter is refused here already.
func ExampleEncode() {
	action := []byte(`{
		"schema_version": 1,
		"action_id": "0f0f0f0f-0000-4000-8000-000000000001",
		"action_type": "worklist.update_status",
		"parameters": {"worklist_item": {"accession_number": "SYN00000001", "status": "IN PROGRESS"}}
	}`)
	message, err := consumer.Encode("leeds", nil, action)
	fmt.Println(*message.MessageID, message.ApplicationProperties, err)

	_, err = consumer.Encode("leeds", nil, []byte(`{"schema_version": 1, "action_id": "42"}`))
	var invalid *consumer.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Reason, invalid.Faults)
	}
	// Output:
	// 0f0f0f0f-0000-4000-8000-000000000001 map[provider_id:leeds] <nil>
	// InvalidMessage [action_id: not a UUID action_type: missing]
}

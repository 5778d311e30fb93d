package consumer_test

import (
	"errors"
	"fmt"
	"time"

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

// A producer gives typed fields; the body is checked and ready for [consumer.Encode].
func ExampleCreateItem_Body() {
	item := consumer.CreateItem{
		ActionID:        "0f0f0f0f-0000-4000-8000-000000000001", // empty: a new one
		Timestamp:       time.Date(2030, 5, 6, 7, 30, 0, 0, time.UTC),
		SourceSystem:    "clinic",
		AccessionNumber: "SYN00000001", // empty: NewAccessionNumber's
		NHSNumber:       "9990000018",
		Name:            consumer.PersonName{Family: "SYNTHETIC", Given: "PATIENT"},
		BirthDate:       time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		Sex:             "F",
		Scheduled:       time.Date(2030, 5, 6, 9, 30, 0, 0, time.UTC), // as the clinic's clocks show it
		Modality:        "MG",
	}
	body, err := item.Body()
	fmt.Println(string(body), err)

	item.Name.Family, item.Sex = "", "female"
	_, err = item.Body()
	var invalid *consumer.InvalidError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			fmt.Println(fault)
		}
	}
	// Output:
	// {"action_id":"0f0f0f0f-0000-4000-8000-000000000001","action_type":"worklist.create_item","parameters":{"worklist_item":{"accession_number":"SYN00000001","participant":{"birth_date":"19700101","name":"SYNTHETIC^PATIENT","nhs_number":"9990000018","sex":"F"},"procedure":{"modality":"MG"},"scheduled":{"date":"20300506","time":"093000"}}},"schema_version":1,"source_system":"clinic","timestamp":"2030-05-06T07:30:00Z"} <nil>
	// parameters.worklist_item.participant.name: family name: missing
	// parameters.worklist_item.participant.sex: not F, M or O
}

func ExamplePersonName() {
	fmt.Println(consumer.PersonName{Family: "Synthetic", Given: "Zoë", Prefix: "Dr"}.DICOM())
	_, err := consumer.PersonName{Family: "SYNTHETIC=PATIENT"}.DICOM()
	fmt.Println(err)
	// Output:
	// Synthetic^Zoë^^Dr <nil>
	// InvalidMessage: family name: holds ^, = or \, which delimit parts of a name in DICOM
}

package consumer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	first := marshal(t, with(valid(update), "action_id", "5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11"))
	got, err := consumer.Identify(first)
	want := consumer.Identity{
		ActionID: "5e0f3d3a-0c5f-4a53-9d6c-0f6a3b0c7a11", ActionType: update, AccessionNumber: "SYN1", BodySHA256: got.BodySHA256,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || len(got.BodySHA256) != 64 {
		t.Errorf("%v, %s", err, diff)
	}
	again := with(with(valid(update), "action_id", "5e0f3d3a-0c5f-4a53-9d6c-0f6a3b0c7a11"), "timestamp", "2030-05-06T07:30:00Z")
	if same, err := consumer.Identify(marshal(t, again)); err != nil || same != got {
		t.Errorf("the action with another timestamp is %+v, %v, want %+v", same, err, got)
	}
	if other, err := consumer.Identify(marshal(t, with(again, item+"status", "DISCONTINUED"))); err != nil || other.BodySHA256 == got.BodySHA256 {
		t.Errorf("other content has the identity %+v, %v", other, err)
	}
	var bad *consumer.InvalidError
	if got, err := consumer.Identify([]byte(strings.Replace(string(first), "SYN1", "", 1))); !errors.As(err, &bad) || len(bad.Faults) != 1 || got != (consumer.Identity{}) {
		t.Errorf("an invalid action is %+v, %v", got, err)
	}
}

package consumer

import (
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// propertyReplays counts, on a copy, how often its action was replayed: a long.
const propertyReplays = "replays"

// Replay says which dead letters are to be sent again, and how.
type Replay struct {
	Filter DeadLetterFilter
	By     store.By // both fields are required

	// Canary is how many of each route are sent first. The rest of the route
	// follows when its gateway has confirmed all of them. 0: 1.
	Canary int

	// CanaryWait is how long that may take. 0: 90 s.
	CanaryWait time.Duration

	// Rate bounds the copies sent in a second. 0: no limit.
	Rate float64

	// Force sends a copy also of what SQL says is confirmed. SQL answers the
	// copy, and nothing is sent to the gateway.
	Force bool

	// With is mended content, by action id in lower case or by sequence number
	// in decimal. nil: none.
	With map[string]Mended

	// Progress is called now and then while letters are sent and canaries
	// watched, by one goroutine. nil: nobody is told.
	Progress func(ReplayProgress)
}

// Mended is content that a person put right, to be sent instead of the dead
// letter's own.
type Mended struct {
	// ProviderID and SettingID say where it goes if the dead letter does not;
	// they may not contradict it. ProviderID "": as the dead letter says.
	ProviderID string
	SettingID  *string // nil, with a ProviderID: the provider's default

	Body []byte // the action as JSON
}

// ReplayVerdict is what becomes of one dead letter.
type ReplayVerdict string

// The verdicts.
const (
	ReplaySend     ReplayVerdict = "send"     // a copy is sent, and the dead letter completed
	ReplayRefused  ReplayVerdict = "refused"  // it is left where it is
	ReplayLeftover ReplayVerdict = "leftover" // its copy was sent by a replay that was cut short: it is only completed
)

// ReplayItem is a dead letter and what becomes of it.
type ReplayItem struct {
	Letter  DeadLetter    `json:"letter"` // without Body and Properties
	Verdict ReplayVerdict `json:"verdict"`
	Why     string        `json:"why"`    // of what is refused: one sentence that says what to do; "" else
	Canary  bool          `json:"ahead"`  // it is sent before the rest of its route
	Mended  bool          `json:"mended"` // with content that was put right
}

// ReplayPlan is what a replay would do.
type ReplayPlan struct {
	Items    []ReplayItem `json:"items"` // in the order of the queue
	Send     int          `json:"send"`
	Refused  int          `json:"refused"`
	Leftover int          `json:"leftover"`
	Routes   []RoutePlan  `json:"routes"` // of what is sent, in order
	Unused   []string     `json:"unused"` // keys of With that are no selected dead letter's
}

// RoutePlan is what of a plan goes over one hybrid connection.
type RoutePlan struct {
	Route    string `json:"route"` // "namespace/path", lower case
	Send     int    `json:"send"`  // canaries included
	Canaries int    `json:"ahead"` // of them
}

// ReplayProgress is how far a replay is.
type ReplayProgress struct {
	Of       int // dead letters to be sent or completed
	Sent     int
	Leftover int
	Refused  int // also those refused from the start, which are not in Of
	Waiting  int // canaries that were sent and whose end is awaited
	Cleared  int // canaries that were confirmed
}

// ReplayReport is what a replay did. Every dead letter that was selected is in
// exactly one of Sent, Refused, Leftover, NotReached and NotSent.
type ReplayReport struct {
	Sent       int `json:"sent"`
	Confirmed  int `json:"confirmed"` // canaries, of those sent
	Refused    int `json:"refused"`
	Leftover   int `json:"leftover"`
	NotReached int `json:"not_reached"` // locked by somebody else for now, or gone meanwhile
	NotSent    int `json:"not_sent"`    // of routes that were stopped, or after an interruption

	// Uncompleted are those of Sent and Leftover that are still in the dead-letter
	// queue, since completing them failed. The next replay takes them for leftovers.
	Uncompleted int `json:"uncompleted"`

	Routes      []RouteReport `json:"routes"`   // in order
	Refusals    []ReplayItem  `json:"refusals"` // the first hundred
	Unused      []string      `json:"unused"`   // keys of With that are no selected dead letter's
	Interrupted bool          `json:"interrupted"`
}

// RouteReport is what a replay did over one hybrid connection.
type RouteReport struct {
	Route    string     `json:"route"`    // "namespace/path", lower case
	Selected int        `json:"selected"` // to be sent
	Sent     int        `json:"sent"`
	State    RouteState `json:"state"`
	Why      string     `json:"why"` // one sentence, where not all was sent
}

// RouteState is how far a route came.
type RouteState string

// The states of a route.
const (
	RouteWaiting RouteState = "waiting" // its canaries are not confirmed
	RouteCleared RouteState = "cleared" // they are; the rest was sent, or is about to be
	RouteStopped RouteState = "stopped" // a canary failed or took too long, or the gateway is held back
)

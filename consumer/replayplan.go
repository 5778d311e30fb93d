package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// Plan says exactly what Replay would do, and changes nothing.
func (d *DeadLetters) Plan(ctx context.Context, r Replay) (ReplayPlan, error) {
	p, err := d.newReplay(ctx, r)
	if err != nil {
		return ReplayPlan{}, err
	}
	return p.plan, nil
}

// replaying is one replay, from its plan to its report. It belongs to one goroutine.
type replaying struct {
	*DeadLetters
	how     Replay
	relays  relaysByRoute
	held    map[string]string // why a gateway's actions are held back, by "namespace/path"
	twins   map[string][]twin // the valid dead letters of each action, in the order of the queue
	careful bool              // a dead letter that cannot be read is in the queue

	plan   ReplayPlan
	report ReplayReport
	items  map[int64]*ReplayItem // those of the plan that are to be sent or completed
	routes []*replayRoute        // in the order of their names
	sent   map[int64]bool        // copies sent and leftovers whose completion failed: only that is left to do
	sender copySender
}

// twin is one of the dead letters of an action.
type twin struct {
	sequence int64
	digest   string
}

// newReplay looks through the whole queue and judges what is selected.
func (d *DeadLetters) newReplay(ctx context.Context, r Replay) (*replaying, error) {
	r.Canary, r.CanaryWait = max(r.Canary, 1), orDefault(r.CanaryWait, 90*time.Second)
	p := &replaying{
		DeadLetters: d, how: r, sender: copySender{dead: d},
		twins: make(map[string][]twin), items: make(map[int64]*ReplayItem), sent: make(map[int64]bool),
		plan: ReplayPlan{Items: []ReplayItem{}, Routes: []RoutePlan{}, Unused: []string{}},
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	if err := p.refresh(ctx); err != nil {
		return nil, err
	}
	var selected []*letter
	err := d.scan(ctx, func(l *letter) error {
		p.note(l)
		if r.Filter.Selects(l.DeadLetter) {
			selected = append(selected, l.light())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, p.judgeAll(ctx, selected)
}

// refresh looks where providers lead now, and which gateways are held back.
func (p *replaying) refresh(ctx context.Context) (err error) {
	if p.relays, err = p.DeadLetters.relays(ctx); err == nil {
		p.held, err = p.DeadLetters.held(ctx)
	}
	return err
}

// light is a copy without the body: its digest is enough, and a queue is long.
func (l *letter) light() *letter {
	light := *l
	light.Body, light.message, light.in.action = nil, nil, relay.Action{}
	return &light
}

// held is why persons hold gateways back, as a refusal has it.
func (d *DeadLetters) held(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.waits().StoreLimit)
	defer cancel()
	healths, err := d.Store.Healths(ctx)
	held := make(map[string]string)
	for _, h := range healths {
		if h.HeldAt != nil {
			held[h.Relay] = fmt.Sprintf("its gateway is held back by %s (%s): release it first", value(h.HeldBy), value(h.HeldWhy))
		}
	}
	return held, err
}

// note takes account of a letter, whether it is selected or not.
func (p *replaying) note(l *letter) {
	if l.Unreadable {
		p.careful = true
	}
	if l.ActionID != "" && l.Fault == "" {
		key := twinKey(l)
		p.twins[key] = append(p.twins[key], twin{l.SequenceNumber, l.in.digest})
	}
}

func twinKey(l *letter) string { return l.ProviderID + "/" + l.ActionID }

// laterThan is the sequence number of the latest dead letter of the same action
// with the same content (of any content, where the letter's own is no longer to
// be sent) that came after it; 0: none.
func (p *replaying) laterThan(l *letter) int64 {
	if l.ActionID == "" {
		return 0
	}
	_, mended := p.mended(l)
	for _, t := range slices.Backward(p.twins[twinKey(l)]) {
		if t.sequence > l.SequenceNumber && (mended || t.digest == l.in.digest) {
			return t.sequence
		}
	}
	return 0
}

func (p *replaying) judgeAll(ctx context.Context, selected []*letter) error {
	unused := maps.Clone(p.how.With)
	routes := make(map[string]*replayRoute)
	p.plan.Items = make([]ReplayItem, len(selected))
	for i, l := range selected {
		delete(unused, strconv.FormatInt(l.SequenceNumber, 10))
		delete(unused, l.ActionID)
		j, err := p.judge(ctx, l)
		if err != nil {
			return err
		}
		item := &p.plan.Items[i]
		*item = ReplayItem{Letter: l.DeadLetter, Verdict: j.verdict, Why: j.why, Mended: j.mended}
		item.Letter.Body, item.Letter.Properties = nil, nil
		switch j.verdict {
		case ReplayRefused:
			p.plan.Refused++
			continue
		case ReplayLeftover:
			p.plan.Leftover++
		case ReplaySend:
			p.plan.Send++
			if item.Letter.Route = j.route; routes[j.route] == nil {
				routes[j.route] = &replayRoute{RouteReport: RouteReport{Route: j.route, State: RouteWaiting}}
			}
			routes[j.route].add(item, j.forced, p.how.Canary)
		}
		p.items[l.SequenceNumber] = item
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		r := routes[name]
		p.routes = append(p.routes, r)
		p.plan.Routes = append(p.plan.Routes, RoutePlan{Route: name, Send: r.Selected, Canaries: r.canaries})
	}
	p.plan.Unused = append(p.plan.Unused, slices.Sorted(maps.Keys(unused))...)
	return nil
}

// checkBy refuses a deed that nobody signs.
func checkBy(verb string, by store.By) error {
	if by.Who == "" || by.Why == "" {
		return errors.New(verb + ": who does it, and why, are required")
	}
	return nil
}

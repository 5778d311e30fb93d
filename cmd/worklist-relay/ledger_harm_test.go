package main_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// harm is what is done to a ledger, in order, and what of it is still to be
// made good. Each piece is bounded in time, so that the work goes on.
type harm struct {
	steps []step // still to be done
	done  map[string]int
	mends []mend // still to be made good
}

// step is one piece of harm, done when so many actions are settled.
type step struct {
	at   int
	kind string
	do   func() // what it draws, it has drawn before
}

// mend ends a piece of harm that lasts.
type mend struct {
	at time.Time
	do func()
}

// advance does what is due, one piece at a time, and mends what has lasted long enough.
func (h *harm) advance(settled int) {
	now := time.Now()
	h.mends = slices.DeleteFunc(h.mends, func(m mend) bool {
		if now.Before(m.at) {
			return false
		}
		m.do()
		return true
	})
	if len(h.steps) > 0 && h.steps[0].at <= settled {
		next := h.steps[0]
		h.steps = h.steps[1:]
		h.done[next.kind]++
		next.do()
	}
}

func (h *harm) lasts(d time.Duration, end func()) {
	h.mends = append(h.mends, mend{time.Now().Add(d), end})
}

func (h *harm) over() bool { return len(h.steps) == 0 && len(h.mends) == 0 }

// String lists what was done, as "kill 3, throttle 1".
func (h *harm) String() string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(h.done)) {
		list = append(list, fmt.Sprintf("%s %d", kind, h.done[kind]))
	}
	return strings.Join(list, ", ")
}

// plan draws all harm beforehand, so that one seed does the same again.
func (l *ledger) plan(dialect, address string) {
	l.harm.done = map[string]int{}
	kills := *ledgerKills
	d := l.openDatabase(dialect, address)
	l.schedule("kill", kills, l.planKill(d))
	for _, fault := range []string{"drop-connections", "detach-links", "expire-locks"} {
		l.schedule(fault, (kills+1)/2, func() func() {
			return func() { l.post("/broker", fmt.Sprintf(`{"fault":%q}`, fault)) }
		})
	}
	l.schedule("throttle", (kills+2)/3, func() func() {
		return func() { l.post("/broker", `{"fault":"throttle","for":"500ms"}`) }
	})
	l.schedule("drop-all", kills, func() func() {
		return func() { l.post("/relay", `{"drop":"*"}`) }
	})
	l.schedule("drop", 3*kills, func() func() {
		gateway := l.gateway()
		return func() { l.post("/relay", fmt.Sprintf(`{"drop":%q}`, gateway)) }
	})
	for _, mode := range []string{"offline", "silent"} {
		l.schedule(mode, 2*kills, func() func() { return l.planMode(mode) })
	}
	for _, kind := range []string{"lose-ack", "drop-before", "drop-after", "late", "hang-up", "swallow", "busy"} {
		l.schedule(kind, 2*kills, func() func() { return l.planFrame(kind) })
	}
	if dialect == "postgres" {
		l.schedule("terminate", kills, func() func() { return d.terminate })
	}
	slices.SortStableFunc(l.harm.steps, func(a, b step) int { return a.at - b.at })
}

// schedule puts a kind of harm somewhere into the first nine tenths of the work.
func (l *ledger) schedule(kind string, times int, draw func() func()) {
	for range times {
		at := l.random.IntN(1 + len(l.entries)*9/10)
		l.harm.steps = append(l.harm.steps, step{at, kind, draw()})
	}
}

// gateway draws one, a busy one more often.
func (l *ledger) gateway() string { return traffic[l.random.IntN(len(traffic))] }

// planKill kills a consumer; every other time when the database has taken no
// writes for a moment, so that much of what is in hand has its ack and no record.
func (l *ledger) planKill(d *database) func() func() {
	times := 0
	return func() func() {
		i := l.random.IntN(*ledgerReplicas)
		times++
		if times%2 == 0 {
			return func() { l.kill(i) }
		}
		return func() {
			release := d.stall()
			l.harm.lasts(400*time.Millisecond, func() {
				l.kill(i)
				release()
			})
		}
	}
}

// planMode changes a gateway for a second or two. Of two changes at once the
// one that ends first ends both.
func (l *ledger) planMode(mode string) func() {
	gateway, home := l.gateway(), "one-shot"
	if persistent(gateway) {
		home = "persistent"
	}
	path := "/gateways/" + gateway
	lasting := 300*time.Millisecond + time.Duration(l.random.Int64N(int64(1500*time.Millisecond)))
	return func() {
		l.post(path, fmt.Sprintf(`{"mode":%q}`, mode))
		l.harm.lasts(lasting, func() { l.post(path, fmt.Sprintf(`{"mode":%q}`, home)) })
	}
}

// planFrame lets a fault strike the next frame at a gateway.
func (l *ledger) planFrame(kind string) func() {
	gateway, next := l.gateway(), fmt.Sprintf(`{"kind":%q}`, kind)
	if kind == "late" {
		// An ack that comes when nobody waits for it any more is dangerous on a
		// connection that is used again: not on its first frame.
		for !persistent(gateway) {
			gateway = l.gateway()
		}
		next = `{"kind":"late","after":"1ms"},{"kind":"late","after":"1300ms"}`
	}
	path := "/gateways/" + gateway
	return func() { l.post(path, `{"next":[`+next+`]}`) }
}

// post tells the servers what to do. That they refuse is a fault of the test.
func (p *processes) post(path, body string) {
	p.t.Helper()
	response, err := http.Post(p.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		p.t.Fatalf("POST %s %s: %d %s", path, body, response.StatusCode, text)
	}
}

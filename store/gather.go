package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// gathering lets PostgreSQL write for several actions with one statement what
// would take one for each: to read and plan a statement, and to commit it, costs
// the server far more than the rows do. Whoever comes while nobody's statement
// is under way sends its own at once; those who come meanwhile are gathered, and the
// next statement is for all of them. One that comes alone waits for nobody.
//
// As with [sharing], each caller goes on only when the statement that holds its
// own write is committed. A statement for several says whose rows it wrote, and
// those callers are done. All others are told nothing by it: where one fails, where
// a write finds its row in another's hands, or where the statement takes too
// long, each does its own in a statement of its own, and has the answer of that.
//
// A caller whose context ends does not wait any longer, and cannot know whether
// its write was done: it is harmless to make it again. Zero is ready.
type gathering struct {
	sharing
	stays bool // in a statement that is under way a caller stays, for at most Stay and LateAnswer: its write must not be left behind unknown
}

// written is a statement that writes for the one action that $1 names, and the
// statement that does the same for several.
type written struct {
	forOne  string
	forEach string // it is given a JSON array of objects, and for how many milliseconds to wait for a row; it tells whose rows it wrote
}

var (
	braces    = regexp.MustCompile(`\{([^}]*)\}`)
	parameter = regexp.MustCompile(`\$(\d+)`)
)

// writing makes both of a text, in which braces hold what is only for several:
// there, each is a table of what they are given. types are those of the parameters
// in their order, with spaces between.
func writing(types, text string) written {
	columns := strings.Fields(types)
	for i, kind := range columns {
		columns[i] = "p" + strconv.Itoa(i+1) + " " + kind
	}
	several := parameter.ReplaceAllString(braces.ReplaceAllString(text, "$1"), "each.p$1")
	return written{forOne(text), gathered(strings.Join(columns, ", "), several)}
}

// forOne is a text without what it has for several.
func forOne(text string) string { return braces.ReplaceAllString(text, "") }

// gathered is a text for several actions. The planner takes a limit that it
// cannot see for a tenth of what it takes a JSON array for, a hundred: so it looks
// each of so few up in an index, and does not read the table.
func gathered(columns, text string) string {
	each := "WITH each AS (SELECT given.* FROM json_to_recordset($1) AS given (" + columns + "), set_config('lock_timeout', $2, TRUE)" +
		" LIMIT (SELECT " + strconv.Itoa(mostShared) + "))"
	if rest, has := strings.CutPrefix(text, "WITH "); has {
		return each + ", " + rest + " RETURNING action_id"
	}
	return each + " " + text + " RETURNING actions.action_id"
}

var errUnstorable = errors.New("not storable text")

// given is what forEach is given for a batch: in order, so that two processes that
// write the same rows do not wait for each other. What is no text for PostgreSQL is
// refused, where JSON would make another text of it, which may be that of another row.
func given(batch []*sharer) (string, error) {
	var list bytes.Buffer
	inOrder := slices.SortedFunc(slices.Values(batch), func(a, b *sharer) int { return cmp.Compare(a.key, b.key) })
	for i, w := range inOrder {
		for n, arg := range w.args {
			if s, is := arg.(string); is && !storable(s) {
				return "", errUnstorable
			}
			value, err := json.Marshal(arg)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&list, "%s%q:%s", opening(i, n), "p"+strconv.Itoa(n+1), value)
		}
		list.WriteByte('}')
	}
	list.WriteByte(']')
	return list.String(), nil
}

// opening is what comes before the n-th member of the i-th object.
func opening(i, n int) string {
	switch {
	case n > 0:
		return ","
	case i > 0:
		return ",{"
	}
	return "[{"
}

// gather commits a statement for the action that args begin with, or that of
// several where the database gains by it, and returns how many rows it wrote for it.
func (s *Store) gather(ctx context.Context, g *gathering, w written, args ...any) (n int64, err error) {
	single := func() (int64, error) { return s.put(ctx, w.forOne, args...) }
	if s.dialect.shares {
		return single()
	}
	me := &sharer{ctx: ctx, args: args, key: args[0].(string)}
	if !g.join(me) {
		select {
		case told := <-me.told:
			if told == committed {
				return 1, nil
			}
			if told == alone {
				return single()
			}
		case <-ctx.Done():
			if g.leave(me) || !g.stays || <-me.told != committed {
				return 0, ctx.Err()
			}
			return 1, nil
		}
	}
	batch := g.take()
	over := g.turn(s.waits.Turn)
	defer over()
	if len(batch) == 1 {
		return single()
	}
	limit := s.waits.Gather
	if g.stays {
		limit = s.waits.Stay
	}
	if s.putEach(ctx, limit, w, batch, over)[me.key] {
		return 1, nil
	}
	return single()
}

// turn returns what lets the next one lead, once; it is done by itself after a
// while.
func (g *gathering) turn(while time.Duration) (over func()) {
	pass := sync.OnceFunc(func() { g.end(nil, 0) })
	late := time.AfterFunc(while, pass)
	return func() {
		late.Stop()
		pass()
	}
}

// putEach commits the statement of a batch, and when that is over tells the others
// of it what became of theirs, and returns whose rows it wrote.
func (s *Store) putEach(ctx context.Context, limit time.Duration, w written, batch []*sharer, over func()) (wrote map[string]bool) {
	wrote = map[string]bool{}
	defer func() {
		over()
		tell(batch[1:], wrote)
	}()
	list, err := given(batch)
	if err != nil {
		return wrote
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var ids []string
	if s.db.SelectContext(ctx, &ids, w.forEach, list, strconv.FormatInt(s.waits.Gather.Milliseconds(), 10)) != nil {
		return wrote // each finds out by itself why
	}
	for _, id := range ids {
		wrote[id] = true
	}
	return wrote
}

func tell(others []*sharer, wrote map[string]bool) {
	for _, w := range others {
		if wrote[w.key] {
			w.told <- committed
		} else {
			w.told <- alone
		}
	}
}

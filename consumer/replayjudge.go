package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// Why a dead letter is not replayed: one sentence each, with what helps.
const (
	whyUnreadable    = "it cannot be read: look at it and remove it in the Azure portal (Service Bus Explorer, dead-letter queue)"
	whyOtherProvider = "its action id is another provider's: the producer has to send it under an id of its own"
	whyOtherContent  = "its action id was used for other content: the producer has to send it under an id of its own"
	whyConfirmed     = "its action is confirmed: `dlq discard` it"
	whyClaimed       = "its action is being worked on: try again in a few minutes"
	whyMayHave       = "it may have arrived with the content it had: a new action with a new id and accession number is needed"
	whyNoRelay       = "no relay for this provider and setting: mend it with `relays add`"
	whyLate          = "its clinic day is past, so it would only expire again: `dlq discard` it"
	whyChanged       = "its action or its relay was changed since the replay began: start again"
	whySettingLost   = "its setting_id cannot be read: name its provider and setting with the mended content"
	whyNoProvider    = "it names no provider: name its provider and setting with the mended content"
	whyOtherAddress  = "the mended content is for another provider or setting than the dead letter"
	whyOtherAction   = "the mended content is of another action: it must keep the action_id"
)

// judgement is what becomes of a letter, with all that sending its copy takes.
type judgement struct {
	verdict ReplayVerdict
	why     string
	route   string         // "namespace/path", lower case
	content incoming       // what is to be sent, decoded
	body    []byte         // of the copy
	address map[string]any // provider_id and setting_id of the copy
	row     *store.Action  // of the action; nil: none
	mended  bool
	forced  bool // SQL says it is confirmed: the copy goes no farther than SQL
}

func refusal(why string) judgement { return judgement{verdict: ReplayRefused, why: why} }

// judge decides by what can be read. What only the database can decide under
// its lock, Reopen decides again. The error is the database's.
func (p *replaying) judge(ctx context.Context, l *letter) (judgement, error) {
	later := p.laterThan(l)
	switch {
	case l.Unreadable:
		return refusal(whyUnreadable), nil
	case l.leftover(later != 0, p.now()):
		return judgement{verdict: ReplayLeftover, row: l.Action}, nil
	}
	j, err := p.contentOf(ctx, l)
	if err != nil || j.verdict == ReplayRefused {
		return j, err
	}
	if later != 0 {
		return refusal(fmt.Sprintf("a later dead letter of the same action, %d, is there: replay that one", later)), nil
	}
	why, err := p.objection(ctx, &j)
	if err != nil || why != "" {
		return refusal(why), err
	}
	if !j.forced && p.late(j.content) {
		return refusal(whyLate), nil
	}
	j.route = p.relays[routeKey{j.content.providerID, value(j.content.settingID)}]
	switch held, is := p.held[j.route]; {
	case j.route == "":
		return refusal(whyNoRelay), nil
	case is:
		return refusal(held), nil
	}
	j.verdict = ReplaySend
	return j, nil
}

// late reports whether a create is of no use any more: an item that comes after
// its clinic day is of no use to anybody, and a canary that expires would keep
// its whole route from following.
func (p *replaying) late(in incoming) bool {
	clinic := p.Clinic
	if clinic == nil {
		clinic = time.UTC
	}
	return in.create && !p.now().Before(in.clinicDay(clinic).AddDate(0, 0, 1))
}

// leftover reports whether the letter's copy is known to have been sent by a
// replay that ended before the letter was completed: since that began the
// action anew, a message of it has been received, and it lives on, is
// confirmed, or came to be a later dead letter.
func (l *letter) leftover(later bool, now time.Time) bool {
	row := l.Action
	if row == nil || value(row.ReplayedSequence) != l.SequenceNumber {
		return false
	}
	switch row.Status {
	case store.Confirmed:
		return true
	case store.Failed:
		return later
	}
	return row.Attempt > row.CountedFrom && now.Sub(row.NextTry()) <= expectedWithin
}

// expectedWithin is how long past its next try the next message of an action is
// still expected, as SQL has it.
const expectedWithin = 10 * time.Minute

// contentOf is what is to be sent for a letter, with the row of its action.
func (p *replaying) contentOf(ctx context.Context, l *letter) (judgement, error) {
	mended, is := p.mended(l)
	if is {
		return p.mend(ctx, l, mended)
	}
	if l.Fault != "" {
		return refusal("it is no valid action (" + l.Fault + "): replay it with mended content"), nil
	}
	if l.foreign {
		return refusal(whyOtherProvider), nil
	}
	return judgement{content: l.in, body: l.Body, address: addressOf(l.ProviderID, l.SettingID), row: l.Action}, nil
}

func (p *replaying) mended(l *letter) (Mended, bool) {
	if m, is := p.how.With[strconv.FormatInt(l.SequenceNumber, 10)]; is {
		return m, true
	}
	m, is := p.how.With[l.ActionID]
	return m, is && l.ActionID != ""
}

// mend is contentOf for a letter with mended content.
func (p *replaying) mend(ctx context.Context, l *letter, m Mended) (judgement, error) {
	provider, setting, why := m.addressFor(l)
	if why != "" {
		return refusal(why), nil
	}
	j := judgement{body: m.Body, address: addressOf(provider, setting), mended: true}
	in, err := decodeContent(m.Body, j.address)
	switch {
	case err != nil:
		return refusal("the mended content is no valid action: " + err.Error()), nil
	case l.ActionID != "" && l.ActionID != in.actionID:
		return refusal(whyOtherAction), nil
	}
	j.content = in
	asking, cancel := context.WithTimeout(ctx, p.waits().StoreLimit)
	defer cancel()
	rows, err := p.Store.ActionsByID(asking, []string{in.actionID})
	if err != nil {
		return judgement{}, err
	}
	if row, is := rows[in.actionID]; is {
		if row.ProviderID != "" && row.ProviderID != provider {
			return refusal(whyOtherProvider), nil
		}
		j.row = &row
	}
	return j, nil
}

// addressFor is where the mended content goes: where the dead letter says, and
// where it does not say, as the person does.
func (m Mended) addressFor(l *letter) (provider string, setting *string, why string) {
	_, names := l.Properties[propertySettingID]
	lost := names && l.SettingID == nil // a null or a number is no default
	switch {
	case m.ProviderID == "" && l.ProviderID == "":
		return "", nil, whyNoProvider
	case m.ProviderID == "" && lost:
		return "", nil, whySettingLost
	case m.ProviderID == "":
		return l.ProviderID, l.SettingID, ""
	case l.ProviderID != "" && l.ProviderID != m.ProviderID,
		l.SettingID != nil && value(l.SettingID) != value(m.SettingID),
		l.ProviderID != "" && !names && m.SettingID != nil:
		return "", nil, whyOtherAddress
	}
	return m.ProviderID, m.SettingID, ""
}

// objection is why SQL's row of the action forbids a replay; "" for none.
func (p *replaying) objection(ctx context.Context, j *judgement) (string, error) {
	row := j.row
	if row == nil {
		return "", nil
	}
	if value(row.BodySHA256) != j.content.digest {
		switch {
		case j.mended:
			maybe, err := p.mayHaveArrived(ctx, row)
			if err != nil || maybe || row.Status == store.Confirmed {
				return whyMayHave, err
			}
		case row.BodySHA256 != nil:
			return whyOtherContent, nil
		}
	}
	j.forced = row.Status == store.Confirmed && p.how.Force
	switch {
	case row.Status == store.Confirmed && !j.forced:
		return whyConfirmed, nil
	case row.ClaimedUntil != nil && row.ClaimedUntil.After(p.now()):
		return whyClaimed, nil
	}
	return "", nil
}

// mayHaveArrived reports whether any attempt may have had an effect.
func (p *replaying) mayHaveArrived(ctx context.Context, row *store.Action) (bool, error) {
	asking, cancel := context.WithTimeout(ctx, p.waits().StoreLimit)
	defer cancel()
	_, attempts, _, err := p.Store.Action(asking, row.ProviderID, row.ActionID)
	for _, a := range attempts {
		if a.Sent == store.SentMaybe {
			return true, nil
		}
	}
	return row.ClaimedUntil != nil && row.AttemptSentAt != nil, err
}

// whyNot is the sentence for what Reopen refused; "" for any other error.
func whyNot(err error) string {
	for _, known := range []struct {
		err error
		why string
	}{
		{store.ErrOtherProvider, whyOtherProvider},
		{store.ErrOtherContent, whyOtherContent},
		{store.ErrConfirmed, whyConfirmed},
		{store.ErrClaimed, whyClaimed},
		{store.ErrMayHaveArrived, whyMayHave},
	} {
		if errors.Is(err, known.err) {
			return known.why
		}
	}
	return ""
}

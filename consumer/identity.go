package consumer

// Identity is what tells actions apart: the part of a body that SQL keeps. None
// of it is a participant's detail.
type Identity struct {
	ActionID        string // canonical lower-case UUID
	ActionType      string
	AccessionNumber string
	BodySHA256      string // of what the action asks for; not of key order, white space or timestamp
}

// Identify reads an action's body. Two bodies with one action id must have the
// same BodySHA256, or the second one is an ActionConflict. The error is the
// [*InvalidError] of [Encode].
func Identify(action []byte) (Identity, error) {
	in, err := decodeContent(action, map[string]any{propertyProviderID: "any"})
	if err != nil {
		return Identity{}, err
	}
	return Identity{ActionID: in.actionID, ActionType: in.actionType, AccessionNumber: in.accession, BodySHA256: in.digest}, nil
}

package consumer

import (
	"bytes"
	_ "embed"
)

//go:embed action.schema.json
var actionSchema []byte

// ActionSchema is the JSON Schema (draft 2020-12) of an action, which is the body
// of a message: for producers in other languages, and for their tests. It accepts
// what [Encode] accepts, but for what a schema cannot say; its description names that.
func ActionSchema() []byte { return bytes.Clone(actionSchema) }

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// newAction is one action as the flags of enqueue --new say it.
type newAction struct {
	provider, setting string
	hasSetting        bool
	actionType        string // create, test or update
	print             bool

	item             consumer.CreateItem
	status           string
	birth, scheduled string
}

// flagsOf says which flags of --new are for which types only.
var flagsOf = map[string][]string{
	"create": {"nhs-number", "family", "given", "birth-date", "sex", "scheduled", "modality", "description"},
	"update": {"status"},
	"":       {"provider", "setting", "type", "action-id", "accession", "source-system", "appointment", "participant", "print"},
}

func (n *newAction) define(flags *pflag.FlagSet) {
	flags.StringVar(&n.provider, "provider", "", "provider id (required)")
	flags.StringVar(&n.setting, "setting", "", "setting id; unset: the provider's default")
	flags.StringVar(&n.actionType, "type", "create", "create, test (a create for which the gateway plays the modality too) or update")
	flags.StringVar(&n.item.ActionID, "action-id", "", "UUID (default a new one)")
	flags.StringVar(&n.item.AccessionNumber, "accession", "", "accession number; the create's for an update (default a new one)")
	flags.StringVar(&n.item.NHSNumber, "nhs-number", "", "the participant's NHS number")
	flags.StringVar(&n.item.Name.Family, "family", "", "the participant's family name")
	flags.StringVar(&n.item.Name.Given, "given", "", "the participant's given names")
	flags.StringVar(&n.birth, "birth-date", "", "the participant's date of birth, YYYY-MM-DD")
	flags.StringVar(&n.item.Sex, "sex", "", "F, M or O")
	flags.StringVar(&n.scheduled, "scheduled", "", `"YYYY-MM-DD HH:MM", as the clinic's clocks show it`)
	flags.StringVar(&n.item.Modality, "modality", "", "modality, such as MG")
	flags.StringVar(&n.item.StudyDescription, "description", "", "study description")
	flags.StringVar(&n.status, "status", "", `"IN PROGRESS", COMPLETED or DISCONTINUED, of an update`)
	flags.StringVar(&n.item.SourceSystem, "source-system", "", "name of the system that asks")
	flags.StringVar(&n.item.AppointmentID, "appointment", "", "appointment id in the source system")
	flags.StringVar(&n.item.ParticipantID, "participant", "", "participant id in the source system")
	flags.BoolVar(&n.print, "print", false, "print the line as enqueue reads it, and send nothing")
}

// checkUse finds flags that are out of place. It never quotes a value.
func (n *newAction) checkUse(flags *pflag.FlagSet, isNew bool) error {
	n.hasSetting = flags.Changed("setting")
	kind := n.actionType
	switch kind {
	case "test":
		kind = "create"
	case "create", "update":
	default:
		return usage("enqueue: --type is create, test or update")
	}
	var faults []string
	for of, names := range flagsOf {
		for _, name := range names {
			switch {
			case !flags.Changed(name):
			case !isNew:
				faults = append(faults, "--"+name+" is for --new")
			case of != "" && of != kind:
				faults = append(faults, "--"+name+" is not for an action of type "+n.actionType)
			}
		}
	}
	return n.refuse(faults)
}

// refuse is a usage error of all faults; nil for none.
func (n *newAction) refuse(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return usage("enqueue: %s", strings.Join(slices.Compact(slices.Sorted(slices.Values(faults))), "; "))
}

// flagNames puts flags in place of the fields that they fill.
var flagNames = strings.NewReplacer(
	"parameters.worklist_item.participant.name: family name", "--family",
	"parameters.worklist_item.participant.name: given name", "--given",
	"parameters.worklist_item.participant.name: name", "--family and --given",
	"parameters.worklist_item.participant.nhs_number", "--nhs-number",
	"parameters.worklist_item.participant.birth_date", "--birth-date",
	"parameters.worklist_item.participant.sex", "--sex",
	"parameters.worklist_item.scheduled.date", "--scheduled",
	"parameters.worklist_item.scheduled.time", "--scheduled",
	"parameters.worklist_item.procedure.modality", "--modality",
	"parameters.worklist_item.procedure.study_description", "--description",
	"parameters.worklist_item.accession_number", "--accession",
	"parameters.worklist_item.status", "--status",
	"source_reference.appointment_id", "--appointment",
	"source_reference.participant_id", "--participant",
	"source_system", "--source-system",
	"action_id", "--action-id",
	"application property provider_id", "--provider",
	"application property setting_id", "--setting",
)

// body is the action. The error is about the command line and tells every fault.
func (n *newAction) body() ([]byte, error) {
	faults := n.readDates()
	if n.provider == "" {
		faults = append(faults, "--provider: missing")
	}
	if n.item.ActionID == "" {
		n.item.ActionID = uuid.NewString()
	}
	if n.item.AccessionNumber == "" && n.actionType != "update" {
		n.item.AccessionNumber = consumer.NewAccessionNumber()
	}
	body, err := n.build()
	var invalid *consumer.InvalidError
	if !errors.As(err, &invalid) {
		return body, errors.Join(err, n.refuse(faults))
	}
	for _, fault := range invalid.Faults {
		fault = flagNames.Replace(fault)
		flag, _, _ := strings.Cut(fault, ":")
		// What is no date is not missing too.
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, flag+": not ") }) {
			faults = append(faults, fault)
		}
	}
	return nil, n.refuse(faults)
}

// readDates reads the two flags that are times; those not given stay zero.
func (n *newAction) readDates() (faults []string) {
	var err error
	if n.item.BirthDate, err = time.Parse(time.DateOnly, n.birth); n.birth != "" && err != nil {
		faults = append(faults, "--birth-date: not YYYY-MM-DD")
	}
	if n.item.Scheduled, err = time.Parse("2006-01-02 15:04", n.scheduled); n.scheduled != "" && err != nil {
		faults = append(faults, "--scheduled: not YYYY-MM-DD HH:MM")
	}
	return faults
}

func (n *newAction) build() ([]byte, error) {
	i := n.item
	if n.actionType == "update" {
		return consumer.UpdateStatus{
			ActionID: i.ActionID, SourceSystem: i.SourceSystem, AppointmentID: i.AppointmentID, ParticipantID: i.ParticipantID,
			AccessionNumber: i.AccessionNumber, Status: n.status,
		}.Body()
	}
	i.Test = n.actionType == "test"
	return i.Body()
}

func (n *newAction) settingID() *string {
	if !n.hasSetting {
		return nil
	}
	return &n.setting
}

// queued is the action ready to be sent.
func (n *newAction) queued() (queued, error) {
	body, err := n.body()
	if err != nil {
		return queued{}, err
	}
	q, err := newQueued(n.provider, n.settingID(), body)
	var invalid *consumer.InvalidError
	if errors.As(err, &invalid) {
		return queued{}, usage("enqueue: %s", flagNames.Replace(strings.Join(invalid.Faults, "; ")))
	}
	return q, err
}

// printLine prints the action as enqueue reads it.
func (n *newAction) printLine(w io.Writer) error {
	q, err := n.queued()
	if err != nil {
		return err
	}
	line, err := json.Marshal(struct {
		ProviderID string          `json:"provider_id"`
		SettingID  *string         `json:"setting_id"`
		Action     json.RawMessage `json:"action"`
	}{q.ProviderID, q.SettingID, q.message.Body})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

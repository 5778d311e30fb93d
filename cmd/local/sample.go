package main

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// request is one line of worklist-relay enqueue: an action and whose it is.
type request struct {
	ProviderID string  `json:"provider_id"`
	SettingID  *string `json:"setting_id"` // nil: the provider's default relay
	Action     action  `json:"action"`
}

// action is what a producer puts into a message, schema version 1.
type action struct {
	SchemaVersion   int             `json:"schema_version"`
	ActionID        string          `json:"action_id"` // UUID
	ActionType      string          `json:"action_type"`
	Timestamp       string          `json:"timestamp"` // RFC 3339, UTC
	SourceSystem    string          `json:"source_system"`
	SourceReference sourceReference `json:"source_reference"`
	Parameters      parameters      `json:"parameters"`
}

type sourceReference struct {
	AppointmentID string `json:"appointment_id"`
	ParticipantID string `json:"participant_id"`
}

type parameters struct {
	WorklistItem worklistItem `json:"worklist_item"`
}

// worklistItem is a create's, or with a status and without the rest an update's.
type worklistItem struct {
	AccessionNumber string       `json:"accession_number"` // 1 to 16 characters
	Status          string       `json:"status,omitempty"` // IN PROGRESS, COMPLETED, DISCONTINUED
	Participant     *participant `json:"participant,omitempty"`
	Scheduled       *scheduled   `json:"scheduled,omitempty"`
	Procedure       *procedure   `json:"procedure,omitempty"`
}

type participant struct {
	NHSNumber string `json:"nhs_number"`
	Name      string `json:"name"`       // LAST^FIRST
	BirthDate string `json:"birth_date"` // YYYYMMDD
	Sex       string `json:"sex"`
}

type scheduled struct {
	Date string `json:"date"` // YYYYMMDD, at the clinic
	Time string `json:"time"` // HHMMSS, at the clinic
}

type procedure struct {
	Modality         string `json:"modality"`
	StudyDescription string `json:"study_description"`
}

const (
	typeCreate = "worklist.create_item"
	typeUpdate = "worklist.update_status"

	clinicZone = "Europe/London"
)

// sampler makes actions for participants who do not exist. It makes the same
// ones again for the same seed, apart from dates. It is for one goroutine.
type sampler struct {
	random *rand.ChaCha8
	number int       // of the participant last made up
	now    time.Time // in the clinic's time zone; its day is the scheduled day
}

func newSampler(seed uint64, now time.Time) *sampler {
	key := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("worklist-relay sample "), seed))
	return &sampler{random: rand.NewChaCha8(key), now: now}
}

// create is a worklist item for a new participant, later the same day.
func (s *sampler) create() action {
	s.number++
	a := s.action(typeCreate)
	a.Parameters.WorklistItem = worklistItem{
		AccessionNumber: s.accession(),
		Participant: &participant{
			NHSNumber: s.nhsNumber(),
			Name:      fmt.Sprintf("SYNTHETIC^PATIENT%04d", s.number),
			BirthDate: fmt.Sprintf("%04d%02d%02d", 1950+s.intN(25), 1+s.intN(12), 1+s.intN(28)),
			Sex:       "F",
		},
		Scheduled: &scheduled{
			Date: s.now.Format("20060102"),
			Time: fmt.Sprintf("%02d%02d00", 9+s.intN(8), 6*s.intN(10)),
		},
		Procedure: &procedure{Modality: "MG", StudyDescription: "SYNTHETIC MAMMOGRAPHY"},
	}
	return a
}

// update moves the item of an earlier create to status.
func (s *sampler) update(created action, status string) action {
	a := s.action(typeUpdate)
	a.SourceReference = created.SourceReference
	a.Parameters.WorklistItem = worklistItem{AccessionNumber: created.Parameters.WorklistItem.AccessionNumber, Status: status}
	return a
}

// action is an envelope with an id of its own.
func (s *sampler) action(kind string) action {
	return action{
		SchemaVersion: 1,
		ActionID:      s.actionID(),
		ActionType:    kind,
		Timestamp:     s.now.UTC().Format(time.RFC3339),
		SourceSystem:  "worklist-relay-sample",
		SourceReference: sourceReference{
			AppointmentID: fmt.Sprintf("SYNTHETIC-APPOINTMENT-%04d", s.number),
			ParticipantID: fmt.Sprintf("SYNTHETIC-PARTICIPANT-%04d", s.number),
		},
	}
}

// actionID is a version 4 UUID from the seeded source.
func (s *sampler) actionID() string {
	return uuid.Must(uuid.NewRandomFromReader(s.random)).String() // a ChaCha8 never ends
}

// accession is SYN and 13 characters of base32: 65 random bits, as many as 16
// characters leave room for.
func (s *sampler) accession() string {
	var random [10]byte
	_, _ = s.random.Read(random[:]) // never fails
	return "SYN" + base32.StdEncoding.EncodeToString(random[:])[:13]
}

// nhsNumber is a number of the 999 range, which is given to nobody, with the
// check digit that the last of its ten digits has to be.
func (s *sampler) nhsNumber() string {
	for {
		text := fmt.Sprintf("999%06d", s.intN(1_000_000))
		sum := 0
		for i, digit := range text {
			sum += (10 - i) * int(digit-'0')
		}
		if check := (11 - sum%11) % 11; check < 10 {
			return fmt.Sprintf("%s%d", text, check)
		}
	}
}

func (s *sampler) intN(n uint64) int { return int(s.random.Uint64() % n) }

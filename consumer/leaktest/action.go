package leaktest

// Create is the body of a worklist.create_item that holds every canary. date is
// its scheduled day, YYYYMMDD.
func Create(actionID, accession, date string) map[string]any {
	return envelope(actionID, "worklist.create_item", map[string]any{
		"accession_number": accession,
		"participant": map[string]any{
			"nhs_number": NHSNumber, "name": Name, "birth_date": BirthDate, "sex": "F", "address": Address,
		},
		"scheduled": map[string]any{"date": date, "time": "093000"},
		"procedure": map[string]any{"modality": Modality, "study_description": StudyDescription},
	})
}

// Update is the body of a worklist.update_status with the envelope's canaries.
func Update(actionID, accession, status string) map[string]any {
	return envelope(actionID, "worklist.update_status", map[string]any{"accession_number": accession, "status": status})
}

func envelope(actionID, actionType string, item map[string]any) map[string]any {
	return map[string]any{
		"schema_version": 1, "action_id": actionID, "action_type": actionType,
		"timestamp": "2030-05-06T07:30:00Z", "source_system": SourceSystem, "note": Note,
		"source_reference": map[string]any{"appointment_id": AppointmentID, "participant_id": ParticipantID},
		"parameters":       map[string]any{"worklist_item": item},
	}
}

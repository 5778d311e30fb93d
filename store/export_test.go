package store

// StandingQueries are what metrics ask of the actions.
var StandingQueries = []string{waitingNow, countOwed}

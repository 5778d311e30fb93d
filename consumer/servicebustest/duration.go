package servicebustest

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// forever is what the service writes for a duration without end.
const forever = "P10675199DT2H48M5.4775807S"

var isoDuration = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseDuration reads an ISO 8601 duration of weeks, days, hours, minutes and seconds; years and months have no fixed length and
// are refused. What is longer than a time.Duration holds is the longest that it holds.
func parseDuration(text string) (time.Duration, error) {
	parts := isoDuration.FindStringSubmatch(text)
	if parts == nil || strings.Join(parts[1:], "") == "" || strings.HasSuffix(text, "T") {
		return 0, fmt.Errorf("%q is no ISO 8601 duration such as PT1M", text)
	}
	units := []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second}
	total := 0.0
	for i, unit := range units {
		if parts[i+1] != "" {
			n, err := strconv.ParseFloat(parts[i+1], 64)
			if err != nil {
				return 0, fmt.Errorf("%q is no ISO 8601 duration: %w", text, err)
			}
			total += n * float64(unit)
		}
	}
	if total >= math.MaxInt64 {
		return math.MaxInt64, nil
	}
	return time.Duration(math.Round(total)), nil
}

// formatDuration writes an ISO 8601 duration as the service does; 0 and below is forever.
func formatDuration(d time.Duration) string {
	if d <= 0 {
		return forever
	}
	var b strings.Builder
	b.WriteByte('P')
	if days := d / (24 * time.Hour); days > 0 {
		fmt.Fprintf(&b, "%dD", days)
		d %= 24 * time.Hour
	}
	if d == 0 {
		return b.String()
	}
	b.WriteByte('T')
	if hours := d / time.Hour; hours > 0 {
		fmt.Fprintf(&b, "%dH", hours)
		d %= time.Hour
	}
	if minutes := d / time.Minute; minutes > 0 {
		fmt.Fprintf(&b, "%dM", minutes)
		d %= time.Minute
	}
	if d > 0 {
		b.WriteString(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S")
	}
	return b.String()
}

package deploy_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	tableRow   = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\| [^|]+ \\|$")
	inBrackets = regexp.MustCompile(`\([^)]*\)`)
)

// readmeSeries is the README's table of metrics: the labels of each series by
// the name that it has in Prometheus.
func readmeSeries(t *testing.T) map[string][]string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	series := map[string][]string{}
	for _, row := range tableRow.FindAllStringSubmatch(string(readme), -1) {
		name, kind := row[1], row[2]
		labels := labelNames(inBrackets.ReplaceAllString(row[3], ""))
		if kind != "histogram" {
			series[name] = labels
			continue
		}
		series[name+"_bucket"] = append(slices.Clone(labels), "le")
		series[name+"_sum"], series[name+"_count"] = labels, labels
	}
	if len(series) == 0 {
		t.Fatal("the README has no table of metrics (| `name` | kind | labels | meaning |)")
	}
	return series
}

var labelName = regexp.MustCompile(`[a-z_]+`)

func labelNames(text string) []string { return labelName.FindAllString(text, -1) }

// selector is what a query asks for.
type selector struct {
	name   string
	labels []string // that it is matched by
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	grouping = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
	span     = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\w+`)
	series   = regexp.MustCompile(`([a-zA-Z_:][\w:]*)(\s*\(|\{[^}]*\})?`)
)

// keywords of PromQL that stand where a name might.
var keywords = []string{"and", "or", "unless", "bool"}

// selectors finds the series that a query asks for. promtool has said that it is
// a query; this need not.
func selectors(expr string) (found []selector) {
	expr = quoted.ReplaceAllString(expr, "")
	expr = grouping.ReplaceAllString(expr, "")
	expr = span.ReplaceAllString(expr, "")
	for _, match := range series.FindAllStringSubmatch(expr, -1) {
		name, after := match[1], strings.TrimSpace(match[2])
		if after == "(" || slices.Contains(keywords, name) {
			continue
		}
		found = append(found, selector{name, labelNames(after)})
	}
	return found
}

// groupings are the labels by which a query puts series together.
func groupings(expr string) (labels []string) {
	for _, match := range grouping.FindAllStringSubmatch(expr, -1) {
		labels = append(labels, labelNames(match[1])...)
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

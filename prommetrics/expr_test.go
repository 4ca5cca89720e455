package prommetrics_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// samples are the names under which Prometheus keeps what is scraped, with their labels.
type samples map[string][]string

// targetLabels are those that Prometheus adds to everything it scrapes.
var targetLabels = []string{"job", "instance"}

var (
	tokens    = regexp.MustCompile(`"[^"]*"|\d+(\.\d+)?[smhd]?|[a-zA-Z_][a-zA-Z0-9_]*|=~|!~|!=|>=|<=|==|\S`)
	word      = regexp.MustCompile(`^[a-zA-Z_]`)
	duration  = regexp.MustCompile(`^\d+[smhd]$`)
	functions = []string{"sum", "max", "rate", "increase", "histogram_quantile", "max_over_time", "label_values"}
	keywords  = []string{"by", "and", "or", "unless", "offset"}
	closing   = map[string]string{"(": ")", "{": "}", "[": "]"}
)

// check looks through a PromQL expression for what is most likely wrong with one: metrics and labels that there are not, unknown
// functions, brackets, ranges. It knows only as much of the language as the files use.
func (s samples) check(expr string) (metrics []string, err error) {
	var open []string // brackets
	grouping := false // within by (…)
	var labels []string
	all := tokens.FindAllString(expr, -1)
	at := func(i int) string {
		if i < 0 || i >= len(all) {
			return ""
		}
		return all[i]
	}
	for i, token := range all {
		inside := ""
		if len(open) > 0 {
			inside = open[len(open)-1]
		}
		switch {
		case closing[token] != "":
			open = append(open, token)
			grouping = grouping || at(i-1) == "by"
		case token == ")" || token == "}" || token == "]":
			if inside == "" || closing[inside] != token {
				return nil, fmt.Errorf("%q closes nothing", token)
			}
			open = open[:len(open)-1]
			grouping = false
		case inside == "[" && !duration.MatchString(token):
			return nil, fmt.Errorf("the range %q is none", token)
		case !word.MatchString(token):
		case grouping:
			labels = append(labels, token)
		case inside == "{":
			if !slices.Contains([]string{"=", "!=", "=~", "!~"}, at(i+1)) || !strings.HasPrefix(at(i+2), `"`) {
				return nil, fmt.Errorf("the label %q is compared with nothing", token)
			}
			if metric := metrics[len(metrics)-1]; !slices.Contains(append(targetLabels, s[metric]...), token) {
				return nil, fmt.Errorf("%s has no label %q", metric, token)
			}
		case (at(i+1) == "(" || at(i+1) == "by") && slices.Contains(functions, token):
		case slices.Contains(keywords, token):
		case s[token] != nil:
			metrics = append(metrics, token)
		case at(i-1) == "," && at(i+1) == ")" && at(1) == "(" && all[0] == "label_values":
			labels = append(labels, token)
		default:
			return nil, fmt.Errorf("there is no %q", token)
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("%q is not closed", open)
	}
	for _, metric := range metrics {
		for _, label := range labels {
			if !slices.Contains(append(targetLabels, s[metric]...), label) {
				return nil, fmt.Errorf("%s has no label %q to group by", metric, label)
			}
		}
	}
	return metrics, nil
}

func TestSamples_Check(t *testing.T) {
	s := samples{"a_total": {"code"}, "b_bucket": {"method", "le"}, "c": {}}
	for _, expr := range []string{
		`sum by (job, code) (rate(a_total{code=~"1|2",job="x"}[5m])) > 0.5 * sum by (job, code) (rate(a_total[5m])) + 1`,
		`histogram_quantile(0.99, sum by (method, le) (rate(b_bucket[5m])))`,
		`c and c offset 5m`,
		`label_values(a_total{job="x"}, instance)`,
	} {
		_, err := s.check(expr)
		require.NoError(t, err, expr)
	}
	for expr, want := range map[string]string{
		`rate(d_total[5m])`:              `there is no "d_total"`,
		`rated(a_total[5m])`:             `there is no "rated"`,
		`rate(a_total[5])`:               `the range "5" is none`,
		`rate(a_total[5m]`:               `is not closed`,
		`rate(a_total[5m)]`:              `closes nothing`,
		`a_total{method="x"}`:            `a_total has no label "method"`,
		`a_total{code}`:                  `compared with nothing`,
		`sum by (code) (c)`:              `c has no label "code" to group by`,
		`label_values(a_total, pattern)`: `a_total has no label "pattern"`,
	} {
		_, err := s.check(expr)
		require.ErrorContains(t, err, want, expr)
	}
}

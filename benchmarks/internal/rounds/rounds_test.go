package rounds

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func parse(args ...string) (o Options, core string, err error) {
	f := flag.NewFlagSet("test", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&core, "core", "0", "a flag of the program itself")
	err = o.Parse(f, args, "what there is")
	return o, core, err
}

func TestOptions(t *testing.T) {
	t.Parallel()
	o, core, err := parse()
	require.NoError(t, err)
	require.Equal(t, 5, o.Pairs)
	require.True(t, o.Only.MatchString("anything"))
	require.Equal(t, "0", core)
	require.Equal(t, "medians of 5 alternating runs", o.Method())

	o, core, err = parse("-only", "^a", "-core", "1", "-pairs", "7")
	require.NoError(t, err)
	require.Equal(t, 7, o.Pairs)
	require.True(t, o.Only.MatchString("ab"))
	require.False(t, o.Only.MatchString("ba"))
	require.Equal(t, "1", core)

	o, _, err = parse("-quick", "-pairs", "7")
	require.NoError(t, err)
	require.True(t, o.Quick)
	require.Equal(t, 1, o.Pairs)
	require.Equal(t, "one short run, not to be quoted", o.Method())
}

func TestOptions_RefuseWhatNobodyCanMean(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`unexpected argument "more"`: {"more"},
		"must be 1 or more":          {"-pairs", "0"},
		"missing closing":            {"-only", "("},
		"not defined":                {"-unknown"},
	} {
		_, _, err := parse(args...)
		require.ErrorContains(t, err, want)
	}
	_, _, err := parse("-h")
	require.ErrorIs(t, err, flag.ErrHelp)
}

func TestOrigin_KnowsNoCommitOutsideARepository(t *testing.T) {
	t.Chdir(t.TempDir())
	require.Regexp(t, `^\d{4}-\d\d-\d\d, commit unknown, go\S+.*, Linux \S+$`, Origin(t.Context()))
}

func TestMedian(t *testing.T) {
	t.Parallel()
	require.Equal(t, 2.0, Median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, Median([]float64{4, 1, 3, 2}))
	require.Equal(t, 7.0, Median([]float64{7}))
}

func TestNumber_KeepsThreeDigits(t *testing.T) {
	t.Parallel()
	for text, v := range map[string]float64{"0": 0, "0.0312": 0.03124, "7.12": 7.1234, "171": 171.4, "3300000": 3.3e6, "-12.3": -12.34} {
		require.Equal(t, text, Number(v))
	}
}

package fanfare_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// Whoever adds a bound says in docs/limits.md what a client sees of it.
func TestLimitsDoc_ListsEveryBound(t *testing.T) {
	text, err := os.ReadFile("docs/limits.md")
	require.NoError(t, err)
	listed := 0
	for prefix, typ := range map[string]reflect.Type{
		"": reflect.TypeFor[fanfare.Config](), "ChannelOptions.": reflect.TypeFor[fanfare.ChannelOptions](),
	} {
		for _, f := range reflect.VisibleFields(typ) {
			if strings.HasPrefix(f.Name, "Max") || strings.HasSuffix(f.Name, "Timeout") || f.Type == reflect.TypeFor[fanfare.Rate]() {
				require.Contains(t, string(text), "`"+prefix+f.Name+"`")
				listed++
			}
		}
	}
	require.GreaterOrEqual(t, listed, 18)
}

package webhook_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/webhook"
)

// FuzzAnswer: whatever an app answers, what comes of it is a result that holds together, a refusal that clients understand, or
// "makes no sense".
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"result":{"user":"42","expire_at":1800000000,"info":{"a":1},"b64data":"e30=","channels":["a"],"subs":{"b":{"override":{"presence":{"value":true}}}},"meta":{}}}`,
		`{"result":{"expired":true}}`, `{"result":{"data":null,"skip_history":true}}`, `{"error":{"code":1000,"message":"x","temporary":true}}`,
		`{"disconnect":{"code":4500,"reason":"x"}}`, `{"result":{},"error":{"code":1}}`, `{"result":{"recover_since":{"offset":1,"epoch":"e"}}}`,
		`{}`, `null`, `[]`, "{\"result\":{\"info\":\"\xff\"}}", `{"error":{"code":1e2}}`,
	} {
		for hook := range uint8(6) {
			f.Add(hook, []byte(s))
		}
	}
	hooks := []string{"Connect", "Refresh", "Subscribe", "SubRefresh", "Publish", "RPC"}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		result, err := webhook.Read(hooks[int(which)%len(hooks)], body)
		if err != nil {
			if e, ok := errors.AsType[*fanfare.Error](err); ok {
				require.True(t, e.Code >= 100 && e.Code < 2000 && len(e.Message) <= 255 && utf8.ValidString(e.Message), e)
			} else if d, ok := errors.AsType[*fanfare.Disconnect](err); ok {
				require.True(t, d.Code > 3000 && d.Code < 5000 && len(d.Reason) <= 123 && utf8.ValidString(d.Reason), d)
			} else {
				require.ErrorIs(t, err, webhook.ErrSense)
			}
			return
		}
		require.True(t, json.Valid(body))
		switch r := result.(type) {
		case fanfare.Identity:
			require.True(t, len(r.Info) == 0 || json.Valid(r.Info) && utf8.Valid(r.Info))
			requireTime(t, r.ExpireAt)
			for _, s := range r.Subscriptions {
				requireTime(t, s.ExpireAt)
			}
		case fanfare.SubscribeReply:
			require.True(t, len(r.Info) == 0 || json.Valid(r.Info))
			requireTime(t, r.ExpireAt)
		case time.Time:
			requireTime(t, r)
		}
	})
}

func requireTime(t *testing.T, at time.Time) {
	require.True(t, at.IsZero() || at.Year() >= 1969 && at.Year() <= 10000, at)
}

package serverapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fanfare-go/fanfare/serverapi"
)

// FuzzRequest: whatever is sent, the answer has a status of the list and, unless that says otherwise, is JSON.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][2]string{
		{"publish", `{"channel":"kept:1","data":{"a":1},"tags":{"a":"b"},"idempotency_key":"k","version":3,"version_epoch":"e","skip_history":true}`},
		{"publish", `{"channel":"text","data":"x\ud800"}`}, {"publish", `{"channel":"binary","b64data":"/w=="}`},
		{"broadcast", `{"channels":["plain","kept:1",""],"b64data":"MQ=="}`},
		{"subscribe", `{"channel":"kept:1","user":"","expire_at":9e99,"recover_since":{"offset":18446744073709551615},"override":{"presence":{}}}`},
		{"unsubscribe", `{"channel":"plain","session":"s"}`}, {"disconnect", `{"whitelist":["a"],"disconnect":{"code":4999,"reason":"{}"}}`},
		{"refresh", `{"expired":true}`}, {"refresh", `{"expire_at":-9223372036854775808}`}, {"presence", `{"channel":"lobby"}`}, {"presence_stats", `{"channel":"lobby"}`},
		{"history", `{"channel":"kept:1","limit":-2,"since":{"epoch":""},"reverse":true}`}, {"history_remove", `{"channel":"text"}`},
		{"channels", `{"pattern":"{a,[b-]}"}`}, {"info", `{}`}, {"rpc", `{"method":"echo","params":[1]}`}, {"rpc", `{"method":"panic"}`},
		{"batch", `{"parallel":true,"commands":[{"publish":{"channel":"plain","data":1}},{"info":null}]}`},
		{"", "{\"method\":\"info\"}\n{\"method\":\"publish\",\"params\":{}}"}, {"", `{}`}, {"x", `null`},
	} {
		f.Add(seed[0], seed[1])
	}
	k := newKit(f, func(c *serverapi.Config) { c.Logger = nil })
	f.Fuzz(func(t *testing.T, method, body string) {
		r := httptest.NewRequest(http.MethodPost, "/api", strings.NewReader(body))
		r.URL.Path = "/api/" + method
		r.Header.Set("X-API-Key", key)
		w := httptest.NewRecorder()
		k.api.ServeHTTP(w, r)
		switch {
		case w.Code == 404 || w.Code == 400 && w.Body.String() == "Bad Request":
			return
		case w.Code != 200 || w.Header().Get("Content-Type") != "application/json":
			t.Fatalf("%s %q: status %d, %s", method, body, w.Code, w.Body)
		}
		for d := json.NewDecoder(w.Body); d.More(); {
			var v struct {
				Result, Error, Replies json.RawMessage
			}
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%s %q: %v", method, body, err)
			}
			if n := len(v.Result) > 0; n == (len(v.Error) > 0) && len(v.Replies) == 0 {
				t.Fatalf("%s %q: neither result nor error, or both", method, body)
			}
		}
	})
}

package serverapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/serverapi"
)

func TestKeys(t *testing.T) {
	for name, test := range map[string]struct {
		url     string
		headers map[string]string
		want    int
	}{
		"header":                            {"", map[string]string{"X-API-Key": key}, 200},
		"another of the keys":               {"", map[string]string{"X-API-Key": "old"}, 200},
		"authorization":                     {"", map[string]string{"Authorization": "apikey " + key}, 200},
		"authorization in capitals":         {"", map[string]string{"Authorization": "APIKey " + key}, 200},
		"address":                           {"?api_key=" + key, nil, 200},
		"address, wrong header":             {"?api_key=" + key, map[string]string{"X-API-Key": "x"}, 200},
		"none":                              {"", nil, 401},
		"wrong":                             {"", map[string]string{"X-API-Key": "x"}, 401},
		"empty":                             {"?api_key=", map[string]string{"X-API-Key": ""}, 401},
		"part of it":                        {"", map[string]string{"X-API-Key": key[:3]}, 401},
		"another case":                      {"", map[string]string{"X-API-Key": strings.ToUpper(key)}, 401},
		"the header hides the other header": {"", map[string]string{"X-API-Key": "x", "Authorization": "apikey " + key}, 401},
		"another scheme":                    {"", map[string]string{"Authorization": "Bearer " + key}, 401},
		"no scheme":                         {"", map[string]string{"Authorization": key}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			r := httptest.NewRequest(http.MethodPost, "/api/publish"+test.url, strings.NewReader(`{"channel":"plain","data":1}`))
			for name, value := range test.headers {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			k.api.ServeHTTP(w, r)
			require.Equal(t, test.want, w.Code)
			if test.want == 401 {
				require.Empty(t, w.Body.String())
			}
			require.NotContains(t, k.log.String(), key)
		})
	}
	t.Run("insecure", func(t *testing.T) {
		k := newKit(t, func(c *serverapi.Config) { c.Keys, c.Insecure = nil, true })
		w := httptest.NewRecorder()
		k.api.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/publish", strings.NewReader(`{"channel":"plain","data":1}`)))
		require.Equal(t, 200, w.Code)
	})
}

func TestTransport(t *testing.T) {
	k := newKit(t, func(c *serverapi.Config) { c.MaxBody = 200 })
	for name, test := range map[string]struct {
		path, body string
		status     int
		answer     string
	}{
		"unknown method":        {"/api/connections", `{}`, 404, "404 page not found\n"},
		"method in capitals":    {"/api/Publish", `{}`, 404, "404 page not found\n"},
		"deeper":                {"/api/publish/x", `{}`, 404, "404 page not found\n"},
		"elsewhere":             {"/apis/publish", `{}`, 404, "404 page not found\n"},
		"empty body":            {"/api/info", ``, 400, "Bad Request"},
		"no JSON":               {"/api/info", `{`, 400, "Bad Request"},
		"null":                  {"/api/info", `null`, 400, "Bad Request"},
		"array":                 {"/api/info", `[]`, 400, "Bad Request"},
		"more than one":         {"/api/info", `{}{}`, 400, "Bad Request"},
		"field of another kind": {"/api/publish", `{"channel":7,"data":1}`, 400, "Bad Request"},
		"batch, no JSON":        {"/api/batch", `[`, 400, "Bad Request"},
		"batch, no list":        {"/api/batch", `{"commands":{}}`, 400, "Bad Request"},
		"combined, no JSON":     {"/api", `{"method":"info"}x`, 400, "Bad Request"},
		"combined, empty":       {"/api", ``, 400, "Bad Request"},
		"combined, no object":   {"/api", `[]`, 400, "Bad Request"},
		"too large":             {"/api/publish", `{"channel":"plain","data":"` + strings.Repeat("x", 200) + `"}`, 413, "Request Entity Too Large\n"},
	} {
		w := k.post(test.path, test.body)
		require.Equal(t, test.status, w.Code, name)
		require.Equal(t, test.answer, w.Body.String(), name)
	}
	r := httptest.NewRequest(http.MethodGet, "/api/info", nil)
	r.Header.Set("X-API-Key", key)
	w := httptest.NewRecorder()
	k.api.ServeHTTP(w, r)
	require.Equal(t, 405, w.Code)
	require.Equal(t, "POST", w.Header().Get("Allow"))
}

func TestTransport_ErrorModes(t *testing.T) {
	k := newKit(t)
	for _, test := range []struct {
		method, body string
		status       int
		bare         string
	}{
		{"publish", `{"channel":"other","data":1}`, 404, `{"code":102,"message":"unknown channel"}`},
		{"rpc", `{"method":"other"}`, 404, `{"code":104,"message":"not found"}`},
		{"publish", `{"channel":"","data":1}`, 400, `{"code":107,"message":"bad request"}`},
		{"history", `{"channel":"plain"}`, 400, `{"code":108,"message":"not available"}`},
		{"history", `{"channel":"kept:1","limit":1,"since":{"offset":1,"epoch":"x"}}`, 416, `{"code":112,"message":"unrecoverable position"}`},
		{"rpc", `{"method":"fail"}`, 500, `{"code":100,"message":"internal server error"}`},
		{"rpc", `{"method":"deny"}`, 500, `{"code":403,"message":"no"}`},
	} {
		k.expect(test.method, test.body, `{"error":`+test.bare+`}`)
		w := k.post("/api/"+test.method, test.body, "X-Centrifugo-Error-Mode", "transport")
		require.Equal(t, test.status, w.Code)
		require.Equal(t, test.bare, w.Body.String())
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	}
	require.Contains(t, k.log.String(), "database is down")
	w := k.post("/api/batch", `{"commands":[{"publish":{"channel":"other","data":1}}]}`, "X-Centrifugo-Error-Mode", "transport")
	require.Equal(t, 200, w.Code)
	always := newKit(t, func(c *serverapi.Config) { c.TransportErrors = true })
	require.Equal(t, 404, always.post("/api/publish", `{"channel":"other","data":1}`).Code)
	require.Equal(t, `{"result":{}}`, always.post("/api/publish", `{"channel":"plain","data":1}`).Body.String())
}

func TestTransport_PrefixAndTimeout(t *testing.T) {
	k := newKit(t, func(c *serverapi.Config) {
		c.Prefix, c.Timeout = "/internal/live/", time.Millisecond
		c.RPC = map[string]serverapi.RPCFunc{"wait": func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	})
	require.Equal(t, 404, k.post("/api/info", `{}`).Code)
	require.Equal(t, `{"error":{"code":100,"message":"internal server error"}}`, k.post("/internal/live/rpc", `{"method":"wait"}`).Body.String())
	require.Equal(t, `{"error":{"code":104,"message":"not found"}}`, k.post("/internal/live/", `{"method":"other"}`).Body.String())
	require.Equal(t, `{"error":{"code":104,"message":"not found"}}`, k.post("/internal/live", `{"method":"other"}`).Body.String())
}

func TestConfig(t *testing.T) {
	for field, c := range map[string]serverapi.Config{
		"Keys is empty": {}, "Keys[1] is empty": {Keys: []string{"a", ""}}, "contradict": {Insecure: true, Keys: []string{"a"}},
		"Prefix": {Insecure: true, Prefix: "api"}, `RPC["x"]`: {Insecure: true, RPC: map[string]serverapi.RPCFunc{"x": nil}},
		"negative": {Insecure: true, Timeout: -1},
	} {
		_, err := serverapi.New(nil, c)
		require.ErrorContains(t, err, field)
	}
}

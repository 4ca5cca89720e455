package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/examples/recipes/internal/recipetest"
)

func TestLogin(t *testing.T) {
	const interval = 100 * time.Millisecond
	a, err := newApp(interval)
	require.NoError(t, err)
	var issued sync.Map // tokens by user
	handler := a.handler()
	recipetest.Run(t, recipetest.App{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		if r.URL.Path == "/login" {
			issued.Store(r.PostFormValue("user"), (&http.Response{Header: w.Header()}).Cookies()[0].Value)
		}
	}), Node: a.node, Interval: interval, EndSession: func(user string) {
		token, _ := issued.Load(user)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token.(string))
		claims, err := a.claims(r)
		require.NoError(t, err)
		a.revoke(claims)
	}})
}

func TestClaims_OfWrongTokens(t *testing.T) {
	a, err := newApp(time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.node.Shutdown(context.Background())) })
	soon, past := jwt.NewNumericDate(time.Now().Add(time.Hour)), jwt.NewNumericDate(time.Now().Add(-time.Hour))
	sign := func(method jwt.SigningMethod, key any, claims jwt.RegisteredClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		require.NoError(t, err)
		return token
	}
	for name, token := range map[string]string{
		"none":           "",
		"garbage":        "a.b.c",
		"unsigned":       sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.RegisteredClaims{Subject: "ann", ExpiresAt: soon}),
		"another method": sign(jwt.SigningMethodHS512, a.key, jwt.RegisteredClaims{Subject: "ann", ExpiresAt: soon}),
		"another key":    sign(jwt.SigningMethodHS256, []byte("x"), jwt.RegisteredClaims{Subject: "ann", ExpiresAt: soon}),
		"expired":        sign(jwt.SigningMethodHS256, a.key, jwt.RegisteredClaims{Subject: "ann", ExpiresAt: past}),
		"without an end": sign(jwt.SigningMethodHS256, a.key, jwt.RegisteredClaims{Subject: "ann"}),
		"without a user": sign(jwt.SigningMethodHS256, a.key, jwt.RegisteredClaims{ExpiresAt: soon}),
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := a.claims(r)
		require.ErrorIs(t, err, fanfare.ErrUnauthorized, name)
	}
}

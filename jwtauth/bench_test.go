package jwtauth_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// BenchmarkAuthenticate is what one connect costs, by the kind of its token.
func BenchmarkAuthenticate(b *testing.B) {
	k := keys()
	ann := claims{"sub": "ann", "exp": in(time.Hour), "info": object{"name": "Ann"}, "channels": []string{"user:ann"}}
	v := newVerifier(b)
	for name, tk := range map[string]string{
		"HS256": hs256(ann), "RS256": token(jwt.SigningMethodRS256, k.rsa, ann), "ES256": token(jwt.SigningMethodES256, k.p256, ann),
		"EdDSA": token(jwt.SigningMethodEdDSA, k.ed, ann, "kid", "ed"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := &fanfare.ConnectRequest{Token: tk}
			for b.Loop() {
				_, err := v.Authenticate(b.Context(), r)
				require.NoError(b, err)
			}
		})
	}
}

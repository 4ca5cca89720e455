package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// maxKeySetSize bounds what is read of a set, in bytes.
const maxKeySetSize = 512 << 10

// remoteKeys is a set at a URL. It asks for the set when a token needs it: there is no goroutine but while a request is under way.
type remoteKeys struct {
	url      *url.URL
	client   http.Client
	log      *slog.Logger
	ttl      time.Duration
	interval time.Duration
	timeout  time.Duration

	mu      sync.Mutex  // guards below; held for no request
	set     keySet      // nil until there was an answer
	got     time.Time   // when the set was asked for
	asked   time.Time   // when it was last asked for
	failing bool        // the last request did
	absent  string      // the key that it was asked for, if the answer does not have it
	request *keyRequest // under way, or nil
}

// keyRequest is one request for the set, which everybody waits for who needs one meanwhile.
type keyRequest struct {
	done chan struct{} // closed when err is set, and the set is the new one
	err  error
}

func newRemoteKeys(c *Config) (*remoteKeys, error) {
	u, err := url.Parse(c.JWKSURL)
	if err != nil {
		return nil, errors.New("JWKSURL is no URL") // the error would show it, with whatever secrets it has
	}
	if err := permitted(u, c.InsecureJWKS); err != nil {
		return nil, fmt.Errorf("JWKSURL: %w", err)
	}
	r := &remoteKeys{url: u, client: *c.HTTPClient, log: c.Logger, ttl: c.JWKSTTL, interval: c.JWKSInterval, timeout: c.JWKSTimeout}
	follow, insecure := r.client.CheckRedirect, c.InsecureJWKS
	r.client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := permitted(req.URL, insecure); err != nil {
			return err
		}
		if follow != nil {
			return follow(req, via)
		}
		if len(via) > 3 {
			return errors.New("too many redirects")
		}
		return nil
	}
	return r, nil
}

// permitted refuses what could be changed on its way.
func permitted(u *url.URL, insecure bool) error {
	switch {
	case u.Host == "":
		return errors.New("it has no host")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("it is neither https nor http")
	case insecure || u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback():
		return nil
	}
	return errors.New("plain http to another machine needs InsecureJWKS")
}

// lookup finds keys. Those it has it returns at once, while they are fresh or the endpoint is known to be away. Otherwise it asks, at
// most once in an interval, and waits for the answer as long as the context lives.
//
// Between two requests only the key that the last one was made for is known to be absent. Any other may be newer than the answer, and
// what cannot be said yet is told as temporary: a client that is told of an invalid token never comes back.
func (r *remoteKeys) lookup(ctx context.Context, kid string) ([]publicKey, error) {
	r.mu.Lock()
	now := time.Now()
	keys := r.set[kid]
	if keys != nil && now.Sub(r.got) < r.ttl {
		r.mu.Unlock()
		return keys, nil
	}
	if r.request == nil && !r.asked.IsZero() && now.Sub(r.asked) < r.interval {
		absent := r.absent == kid
		r.mu.Unlock()
		return r.answer(kid, keys, absent)
	}
	q := r.request
	own := q == nil
	if own {
		q = &keyRequest{done: make(chan struct{})}
		r.request, r.asked = q, now
		r.absent = ""
		go r.fetch(q) // it ends by its own timeout; a caller that leaves must not take the answer from the others
	}
	away := r.failing
	r.mu.Unlock()
	if keys != nil && away {
		return keys, nil // nobody waits again for an endpoint that does not answer
	}

	select {
	case <-q.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errTemporary, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys = r.set[kid]
	// Only an answer to a question that was asked after the token came says that its key is not there.
	absent := own && q.err == nil
	if keys == nil && absent {
		r.absent = kid
	}
	return r.answer(kid, keys, absent)
}

func (r *remoteKeys) answer(kid string, keys []publicKey, absent bool) ([]publicKey, error) {
	switch {
	case keys != nil:
		return keys, nil // old ones as well, if the endpoint is away
	case absent:
		return nil, fmt.Errorf("%w %q", errUnknownKey, short(kid))
	}
	return nil, errTemporary
}

// fetch makes a request and keeps its answer.
func (r *remoteKeys) fetch(q *keyRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	set, err := r.get(ctx)

	r.mu.Lock()
	old := r.set
	if err == nil {
		r.set, r.got = set, r.asked
	}
	q.err, r.failing, r.request = err, err != nil, nil
	close(q.done)
	r.mu.Unlock()

	// Neither can come more often than requests are made.
	where := slog.String("host", r.url.Host)
	switch kids := slices.Sorted(maps.Keys(set)); {
	case err != nil && old == nil:
		r.log.Error("jwtauth: keys could not be got: clients are told to try again", where, slog.Any("err", err))
	case err != nil:
		r.log.Warn("jwtauth: keys could not be got: the old ones stay in use", where, slog.Any("err", err))
	case !slices.Equal(kids, slices.Sorted(maps.Keys(old))):
		r.log.Info("jwtauth: new keys", where, slog.Int("keys", len(kids)), slog.Any("kids", kids[:min(len(kids), 10)]))
	}
}

func (r *remoteKeys) get(ctx context.Context) (set keySet, err error) {
	// What was sent is somebody else's, and so is a transport.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, errors.New("no request can be made of the URL")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which may have secrets
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxKeySetSize:
		return nil, fmt.Errorf("the set has more than %d bytes", maxKeySetSize)
	}
	return parseKeySet(body, r.log)
}

package fanfare

import (
	"errors"
	"fmt"
	"time"

	"github.com/fanfare-go/fanfare/internal/rate"
)

// Rate limits how often something may happen: Burst times at once, and one more in every Every. Fifty a second are
// Rate{Every: time.Second / 50}. The zero value is the default of its setting; a negative Every is no limit.
//
// What is over a rate is refused with [ErrTooManyRequests], a temporary error, and not counted: who goes on gets as much as the
// rate allows. Whoever is refused Burst times, and then again faster than the rate, is closed with [DisconnectTooManyRequests],
// after which clients back off.
type Rate struct {
	// Every is the time in which one more is allowed.
	Every time.Duration
	// Burst is how many are allowed at once, after a while of quiet. Zero is the default of the setting.
	Burst int
}

// withDefaults fills in what is zero. A negative rate is none.
func (r Rate) withDefaults(d Rate, burst int) Rate {
	if r == (Rate{}) {
		r = d
	}
	if r.Every < 0 {
		return Rate{}
	}
	if r.Every > 0 && r.Burst == 0 {
		r.Burst = burst
	}
	return r
}

func (r Rate) validate() error {
	switch {
	case r.Burst < 0 || r.Burst > maxNumber:
		return fmt.Errorf("with a Burst of %d must not be negative or over %d", r.Burst, maxNumber)
	case r.Every == 0 && r.Burst > 0:
		return errors.New("has a Burst and no Every")
	case r.Every > 0 && r.Every > maxDuration/time.Duration(r.Burst):
		return fmt.Errorf("of %d times %v is more than a year", r.Burst, r.Every)
	}
	return nil
}

// limit is the rate in the form that is counted with.
func (r Rate) limit() rate.Limit {
	if r.Every <= 0 {
		return rate.Limit{}
	}
	return rate.New(r.Every, r.Burst)
}

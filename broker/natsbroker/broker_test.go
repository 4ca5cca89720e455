package natsbroker

import (
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/brokertest"
)

func TestBroker_KeepsTheContract(t *testing.T) {
	s := startServer(t)
	brokertest.Run(t, brokertest.Options{
		New:     func(t testing.TB) fanfare.Broker { return s.broker(t, nil) },
		Shared:  true,
		Restart: func(t testing.TB) { s.restart(t, true) },
	})
}

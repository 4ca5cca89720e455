package fanfare

import (
	"fmt"
	"log/slog"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Override replaces options of the channel for one subscription. A nil field leaves the option as it is. What a subscription begins
// with holds until its end.
type Override struct {
	// Presence says whether the client is entered into the channel's presence. That can be read only where
	// [ChannelOptions.Presence] is set.
	Presence *bool
	// JoinLeave says whether others are told that this client comes and goes.
	JoinLeave *bool
	// ForceRecovery makes the subscription recoverable, asked or not; false makes it so only for a client that asks, as
	// [RecoveryOnRequest] does, which the server's own subscriptions cannot. True needs [ChannelOptions.History]: without it the
	// subscription is refused with [ErrNotAvailable].
	ForceRecovery *bool
	// ForcePositioning makes the node watch the subscription's position, asked or not; false only for a client that asks, or for
	// a recoverable subscription. True needs History, too.
	ForcePositioning *bool
	// ForceJoinLeave tells this client of the joins and leaves of others, asked or not; false only if it asks and the channel has
	// [ChannelOptions.JoinLeave].
	ForceJoinLeave *bool
}

// terms are what a subscription is granted: the channel's options, the app's override and the client's wishes, put together once.
type terms struct {
	positioned, recoverable bool
	joinLeave               bool // the client is told of joins and leaves
	announces               bool // others are told of the client's
	present                 bool // the client is entered into presence
}

// terms works them out. The override may be nil.
func (o *ChannelOptions) terms(w recoverWish, v *Override) (terms, error) {
	if v == nil {
		v = &Override{}
	}
	t := terms{present: either(v.Presence, o.Presence), announces: either(v.JoinLeave, o.JoinLeave)}
	t.joinLeave = either(v.ForceJoinLeave, o.ForceJoinLeave) || w.joinLeave && (o.JoinLeave || t.announces)
	t.positioned, t.recoverable = o.positions(w)
	if v.ForceRecovery != nil || v.ForcePositioning != nil {
		if !o.keepsHistory() && (isTrue(v.ForceRecovery) || isTrue(v.ForcePositioning)) {
			return terms{}, fmt.Errorf("override of positions in a channel without history: %w", ErrNotAvailable)
		}
		t.positioned, t.recoverable = o.overriddenPositions(w, v, t)
	}
	return t, nil
}

// overriddenPositions is [ChannelOptions.positions] with an override that says something about them.
func (o *ChannelOptions) overriddenPositions(w recoverWish, v *Override, declared terms) (positioned, recoverable bool) {
	asked := o.Recovery != RecoveryOff && (w.recoverable || w.recover)
	recoverable = declared.recoverable
	if v.ForceRecovery != nil {
		recoverable = *v.ForceRecovery || asked
	}
	positioned = declared.positioned
	if v.ForcePositioning != nil {
		positioned = *v.ForcePositioning || o.Recovery != RecoveryOff && w.positioned
	} else if v.ForceRecovery != nil && !*v.ForceRecovery {
		positioned = o.Recovery != RecoveryOff && w.positioned
	}
	return positioned || recoverable, recoverable
}

// either is the override if there is one, or else the option.
func either(override *bool, option bool) bool {
	if override != nil {
		return *override
	}
	return option
}

func isTrue(b *bool) bool { return b != nil && *b }

// settle fixes what the subscription is granted, before anything of it begins.
func (o *opening) settle() error {
	s := o.s
	opts := &s.declared.options
	v := o.reply.Override
	if o.reply.Since != nil && !o.wish.recover {
		o.wish.recover, o.wish.since, o.wish.reject = true, *o.reply.Since, false // the client did not ask for it
	}
	if o.wish.recover {
		o.seam.except = s.client.id
	}
	always := opts.Recovery == RecoveryCacheAlways && (v == nil || v.ForceRecovery == nil || *v.ForceRecovery)
	if always && !o.wish.recover {
		o.wish.recover, o.wish.reject = true, false // spec 10.6; the client did not ask, so there is nothing to reject
	}
	t, err := opts.terms(o.wish, v)
	if err != nil {
		s.client.node.log.Error("SubscribeReply.Override cannot be granted", slog.String("channel", s.channel), slog.Any("err", err))
		return err
	}
	s.positioned, s.recoverable, s.joinLeave, s.announces = t.positioned, t.recoverable, t.joinLeave, t.announces
	o.present = t.present && !s.client.info.Brief
	if opts.SlowReader == SlowReaderDropOldest && !s.positioned && s.takesDeltas() {
		s.special, s.tailoring = false, nil // what is dropped is what the next difference is to
	}
	return nil
}

// pushed is what the client is told of a subscription that the server makes during the session.
func (o *opening) pushed(told *protocol.SubscribeResult) *protocol.Push {
	return &protocol.Push{Channel: o.s.channel, Subscribe: &protocol.Subscribe{Recoverable: told.Recoverable,
		Positioned: told.Positioned, Epoch: told.Epoch, Offset: told.Offset, Data: told.Data}}
}
